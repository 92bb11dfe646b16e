#include "trainer/tasks/label_maps.h"

#include <set>

#include "trainer/report/pictures.h"

namespace trainer {

std::vector<std::string> unique_stems(const std::vector<std::string>& files) {
  std::vector<std::string> names;
  for (const std::string& file : files)
    names.push_back(std::filesystem::path(file).stem().string());
  std::set<std::string> seen, used(names.begin(), names.end());
  for (std::string& name : names) {
    const std::string stem = name;
    if (seen.insert(stem).second) continue;  // the first keeps it
    for (int n = 2; !used.insert(name).second; ++n) name = stem + "-" + std::to_string(n);
  }
  return names;
}

std::vector<std::string> unique_stems(const Dataset& dataset) {
  std::vector<std::string> files;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const Sample& sample = dataset.sample(i);
    files.push_back(sample.file.empty() ? sample.name : sample.file);
  }
  return unique_stems(files);
}

void write_label_map(const std::filesystem::path& file, const LabelImage& labels,
                     const LabelRange& range) {
  const std::vector<Rgb>& colors = label_colors(range.has_background);
  const bool wide = static_cast<std::size_t>(range.num_classes) > colors.size();
  write_label_png(file, labels, wide ? std::span<const Rgb>() : colors);
}

}  // namespace trainer
