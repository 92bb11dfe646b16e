#include "trainer/data/data_statistics.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "trainer/data/size_buckets.h"

namespace trainer {
namespace {

Range range_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  return {values.front(), values[values.size() / 2], values.back()};
}

// Nothing where the file can't be read; reading the sample will say so, under on_error.
Size size_of(const Sample& sample) {
  if (sample.width > 0 || sample.file.empty())
    return {.width = sample.width, .height = sample.height};
  try {
    const ImageInfo info = probe_image(sample.file);
    return {.width = info.width, .height = info.height};
  } catch (const comm::Error&) {
    return {};
  }
}

}  // namespace

DataStatistics data_statistics(const Dataset& dataset, const DataConfig& config) {
  DataStatistics result;
  result.num_images = dataset.size();
  result.has_boxes = config.format == DataFormat::kCoco || config.format == DataFormat::kVoc ||
                     config.format == DataFormat::kShapes;
  std::vector<std::size_t> class_of_label(static_cast<std::size_t>(dataset.num_classes()), 0);
  for (std::size_t k = 0; k < dataset.class_names().size(); ++k) {
    const int label = dataset.class_label(k);
    class_of_label[static_cast<std::size_t>(label)] = k;
    result.classes.push_back({.name = dataset.class_names()[k], .label = label});
  }
  const auto of = [&](int label) -> ClassStatistics& {
    return result.classes[class_of_label[static_cast<std::size_t>(label)]];
  };
  std::vector<double> widths, heights, sides;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const Sample& sample = dataset.sample(i);
    const Size size = size_of(sample);
    if (size.width > 0) widths.push_back(size.width);
    if (size.height > 0) heights.push_back(size.height);
    if (sample.label >= 0) ++of(sample.label).images;
    std::int64_t boxes = 0;
    std::set<int> seen;
    for (const Object& object : sample.objects) {
      ClassStatistics& entry = of(object.label);
      entry.crowds += object.crowd;
      if (!object.trained) continue;
      ++boxes;
      ++entry.boxes;
      entry.difficult += object.difficult;
      if (seen.insert(object.label).second) ++entry.images;
      sides.push_back(std::sqrt((object.box[2] - object.box[0]) * (object.box[3] - object.box[1])));
    }
    result.num_boxes += boxes;
    result.max_boxes = std::max(result.max_boxes, boxes);
    result.images_without_boxes += result.has_boxes && boxes == 0;
  }
  result.width = range_of(std::move(widths));
  result.height = range_of(std::move(heights));
  result.box_side = range_of(std::move(sides));
  const std::vector<Size> buckets = size_buckets(config);
  if (buckets.size() > 1) {
    result.images_of_bucket.assign(buckets.size(), 0);
    for (const int bucket : assign_buckets(dataset, buckets))
      ++result.images_of_bucket[static_cast<std::size_t>(bucket)];
  }
  return result;
}

}  // namespace trainer
