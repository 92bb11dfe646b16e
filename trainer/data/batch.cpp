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
  std::size_t packed_bytes = 0;  // of an image
  for (const Size& bucket : buckets_) {
    largest = std::max(largest, std::int64_t{bucket.width} * bucket.height);
    packed_bytes = std::max(packed_bytes, packed_capacity(bucket, channels));
  }
  const auto n = static_cast<std::size_t>(num_images);
  const std::size_t pixels = n * static_cast<std::size_t>(largest);
  const std::size_t num_boxes = n * static_cast<std::size_t>(max_boxes);
  std::size_t size_bytes = 0;
  const auto lay_out = [&] {
    size_bytes = 0;
    if (shape.packed)
      give(packed, n * packed_bytes, size_bytes);
    else
      give(image, pixels * static_cast<std::size_t>(channels), size_bytes);
    if (shape.fields.boxes) {
      give(boxes, num_boxes * 4, size_bytes);
      give(labels, num_boxes, size_bytes);
      give(count, n, size_bytes);
    }
    if (shape.fields.label_map) give(label_map, pixels, size_bytes);
    if (shape.fields.label) give(label, n, size_bytes);
    give(sample_id, n, size_bytes);
    give(epoch, n, size_bytes);
  };
  lay_out();  // how much it takes
  fields_ = comm::Buffer::for_transfer(shape.device, size_bytes);
  std::ranges::fill(fields_.bytes(), std::byte{0});
  lay_out();
  std::ranges::fill(sample_id, -1);
  original_size.resize(n * 2);
  geometry.resize(n);
  set_bucket(0);
  for (int i = 0; i < num_images && shape.packed; ++i) pack_nothing(packed_of(i));
}

// The next `count` elements of the memory, where there is one; each field aligned.
template <typename T>
void Batch::give(std::span<T>& field, std::size_t count, std::size_t& offset_bytes) const {
  if (fields_.size_bytes() > 0) field = fields_.as<T>(offset_bytes, count);
  constexpr std::size_t kAlignment = comm::Buffer::kAlignment;
  offset_bytes += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
}

void Batch::set_bucket(int index) {
  bucket = index;
  height = buckets_.at(static_cast<std::size_t>(index)).height;
  width = buckets_.at(static_cast<std::size_t>(index)).width;
}

std::span<float> Batch::image_values() {
  if (image.empty()) return {};
  return image.first(static_cast<std::size_t>(num_images * channels * plane()));
}

std::span<float> Batch::image_of(int n) {
  const auto size = static_cast<std::size_t>(channels * plane());
  return image.subspan(static_cast<std::size_t>(n) * size, size);
}

std::span<std::byte> Batch::packed_of(int n) {
  return packed.subspan(static_cast<std::size_t>(n) * packed_stride(), packed_stride());
}

void Batch::write_image(int n, const Image& decoded, const Geometry& where,
                        const LetterboxOptions& options) {
  const Size network = {.width = width, .height = height};
  if (!packed.empty())
    return pack_image(decoded, where, options, {network, channels, packed_of(n)});
  if (channels == 3) return letterbox(decoded, where, network, options, image_of(n));
  // Gray data: R = G = B, the first plane is the image.
  thread_local std::vector<float> planes;
  planes.resize(static_cast<std::size_t>(3 * plane()));
  letterbox(decoded, where, network, options, planes);
  std::copy_n(planes.begin(), plane(), image_of(n).begin());
}

std::span<std::int32_t> Batch::label_map_values() {
  return label_map.first(static_cast<std::size_t>(num_images * plane()));
}

std::span<std::int32_t> Batch::label_map_of(int n) {
  const auto size = static_cast<std::size_t>(plane());
  return label_map.subspan(static_cast<std::size_t>(n) * size, size);
}

void Batch::clear_image(int n, int ignore) {
  const auto i = static_cast<std::size_t>(n);
  if (packed.empty())
    std::ranges::fill(image_of(n), 0.0f);
  else
    pack_nothing(packed_of(n));
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
  std::ranges::fill(boxes.subspan(begin * 4, size * 4), 0.0f);
  std::ranges::fill(labels.subspan(begin, size), 0);
  count[static_cast<std::size_t>(n)] = first;
}

}  // namespace trainer
