#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace trainer {

// The PNG files of a folder that is, or will be, written to; none where there is no such folder.
std::vector<std::filesystem::path> png_files(const std::filesystem::path& folder);

// What a command reads is never what it writes or deletes, by whatever name of their folders.
// An empty input is none. Errors: kUsage naming the first input that is among the outputs.
void refuse_to_overwrite(const std::vector<std::string>& inputs,
                         const std::vector<std::filesystem::path>& outputs);

}  // namespace trainer
