#pragma once

#include <filesystem>
#include <string>
#include <vector>

// The rules of the tree, each a function of its root that returns one line a violation:
// "path:line: what". Folders that git ignores (build*, runs) and .git are not looked into.
namespace structure {

using Violations = std::vector<std::string>;

Violations top_level_entries(const std::filesystem::path& root);
// Which folders a folder may include (comm <- models <- trainer and finer), and which folder alone
// may include a library's headers.
Violations includes(const std::filesystem::path& root);
// Lengths of files, functions and lines; the median file; tests against sources.
Violations sizes(const std::filesystem::path& root);
// #pragma once, backend #if, unfinished marks, process exits.
Violations text(const std::filesystem::path& root);
Violations scripts(const std::filesystem::path& root);

}  // namespace structure
