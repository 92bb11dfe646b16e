#include <algorithm>
#include <utility>

#include "trainer/data/stored_dataset.h"

namespace trainer {
namespace {

// Images below a folder a class; classes and images in byte order of their names. data.classes
// gives another order of the folders, and allows for classes without a folder. data.only keeps
// some, which are then numbered anew in order.
class FoldersDataset : public StoredDataset {
 public:
  explicit FoldersDataset(const FormatInput& input) {
    if (input.split.images.empty()) missing_key(input, "images", "a folder of class folders");
    source_ = data_path(input.config, input.split.images);
    const std::vector<std::string> folders = list_folders(source_);  // in byte order
    std::vector<std::string> names = input.config.classes.empty() ? folders : input.config.classes;
    for (const std::string& folder : folders)
      if (std::ranges::find(names, folder) == names.end())
        anomalies_.add(AnomalyKind::kUnknownId, trainer::quoted(folder), "is not in data.classes");
    number_classes(kept_classes(input.config, std::move(names)), false);
    if (class_names_.empty())
      comm::fail(comm::ExitCode::kData, "{}: no class folder in it", source_);
    for (std::size_t k = 0; k < class_names_.size(); ++k)
      if (std::ranges::binary_search(folders, class_names_[k]))
        add_class(input, static_cast<int>(k));
    set_fingerprint();
  }

 private:
  void add_class(const FormatInput& input, int label) {
    const std::string& name = class_names_[static_cast<std::size_t>(label)];
    const auto folder = path_below(source_, name);
    if (!folder) return anomalies_.add(AnomalyKind::kRefusedName, trainer::quoted(name), "");
    for (const std::string& file : list_files(*folder)) {
      if (!has_image_extension(file)) continue;
      if (input.split.limit && size() >= *input.split.limit) return;
      Sample sample;
      sample.name = name + "/" + file;
      sample.file = *folder + "/" + file;
      sample.label = label;
      add_sample(std::move(sample));
    }
  }
};

}  // namespace

std::unique_ptr<Dataset> open_folders(const FormatInput& input) {
  return std::make_unique<FoldersDataset>(input);
}

}  // namespace trainer
