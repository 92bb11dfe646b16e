#include "trainer/commands/image_list.h"

#include <filesystem>

#include "comm/error.h"

namespace trainer {

ImageList::ImageList(const std::vector<std::string>& files, int channels) : channels_(channels) {
  source_ = "the images given";
  for (const std::string& file : files) {
    if (!std::filesystem::is_regular_file(file)) {
      comm::fail(comm::ExitCode::kInputMissing,
                 "{}: no such image; give files, or KEY=VALUE with a key of the configuration",
                 trainer::quoted(file));
    }
    Sample sample;
    sample.name = file;
    sample.file = file;
    sample.image_id = size() + 1;
    samples_.push_back(std::move(sample));
  }
}

}  // namespace trainer
