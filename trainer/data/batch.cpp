#include "trainer/data/batch.h"

#include <algorithm>

namespace trainer {

Batch::Batch(const BatchShape& shape)
    : num_images(shape.num_images),
      channels(shape.channels),
      max_boxes(shape.fields.boxes ? shape.max_boxes : 0),
      buckets_(shape.buckets) {
  REQUIRE(num_images >= 1 && channels >= 1 && !buckets_.empty(), "{} images, {} channels",
          num_images, channels);
  std::int64_t largest = 0;
  for (const Size& bucket : buckets_)
    largest = std::max(largest, std::int64_t{bucket.width} * bucket.height);
  const auto n = static_cast<std::size_t>(num_images);
  const std::size_t pixels = n * static_cast<std::size_t>(largest);
  image.resize(pixels * static_cast<std::size_t>(channels));
  if (shape.fields.boxes) {
    boxes.resize(n * static_cast<std::size_t>(max_boxes) * 4);
    labels.resize(n * static_cast<std::size_t>(max_boxes));
    count.resize(n);
  }
  if (shape.fields.label_map) label_map.resize(pixels);
  if (shape.fields.label) label.resize(n);
  sample_id.resize(n, -1);
  original_size.resize(n * 2);
  epoch.resize(n);
  geometry.resize(n);
  set_bucket(0);
}

void Batch::set_bucket(int index) {
  bucket = index;
  height = buckets_.at(static_cast<std::size_t>(index)).height;
  width = buckets_.at(static_cast<std::size_t>(index)).width;
}

std::span<float> Batch::image_values() {
  return std::span(image).first(static_cast<std::size_t>(num_images * channels * plane()));
}

std::span<float> Batch::image_of(int n) {
  const auto size = static_cast<std::size_t>(channels * plane());
  return std::span(image).subspan(static_cast<std::size_t>(n) * size, size);
}

std::span<std::int32_t> Batch::label_map_values() {
  return std::span(label_map).first(static_cast<std::size_t>(num_images * plane()));
}

std::span<std::int32_t> Batch::label_map_of(int n) {
  const auto size = static_cast<std::size_t>(plane());
  return std::span(label_map).subspan(static_cast<std::size_t>(n) * size, size);
}

void Batch::clear_image(int n, int ignore) {
  const auto i = static_cast<std::size_t>(n);
  std::ranges::fill(image_of(n), 0.0f);
  if (!label_map.empty()) std::ranges::fill(label_map_of(n), ignore);
  if (!count.empty()) clear_boxes(n, 0);
  if (!label.empty()) label[i] = ignore;
  sample_id[i] = -1;
  original_size[2 * i] = original_size[2 * i + 1] = 0;
  epoch[i] = 0;
  geometry[i] = {};
}

void Batch::clear_boxes(int n, int first) {
  const auto begin = static_cast<std::size_t>(n) * static_cast<std::size_t>(max_boxes) +
                     static_cast<std::size_t>(first);
  const auto size = static_cast<std::size_t>(max_boxes - first);
  std::ranges::fill(std::span(boxes).subspan(begin * 4, size * 4), 0.0f);
  std::ranges::fill(std::span(labels).subspan(begin, size), 0);
  count[static_cast<std::size_t>(n)] = first;
}

}  // namespace trainer
