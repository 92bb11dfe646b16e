#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/buffer.h"
#include "trainer/data/dataset.h"
#include "trainer/data/packed_image.h"
#include "trainer/data/transform.h"

namespace trainer {

struct BatchShape {
  int num_images = 1;  // N, images of a micro-batch
  int channels = 3;
  int max_boxes = 0;
  std::vector<Size> buckets;
  Fields fields;
  comm::Device device;  // where the fields are copied to
  bool packed = false;  // images are handed out as they were decoded
};

// One micro-batch as the network reads it: fields of fixed capacity, allocated once for the largest
// bucket; those the model does not declare are empty. Where sample_id is -1 there is no image
// (zeros, no boxes, ignored labels): beyond `valid` in an evaluation's last micro-batches, and
// where on_error: skip left one out of an evaluation. Training has none. The fields lie in memory
// of the host from which copies to the device are asynchronous. Move-only.
struct Batch {
  explicit Batch(const BatchShape& shape);

  int num_images;  // N
  int channels, max_boxes;
  int bucket = 0;
  int height = 0, width = 0;  // of the bucket: H, W
  int valid = 0;
  std::int64_t step = 0;         // training: the step; evaluation: -1
  std::int64_t micro_batch = 0;  // index among all ranks'

  std::span<float> image;                   // (N, C, H, W), normalised; empty where packed
  std::span<std::byte> packed;              // (N) packed images, packed_stride() apart; else empty
  std::span<float> boxes;                   // (N, max_boxes, 4) x1 y1 x2 y2, network pixels
  std::span<std::int32_t> labels;           // (N, max_boxes) class index, 0 beyond count
  std::span<std::int32_t> count;            // (N)
  std::span<std::int32_t> label_map;        // (N, H, W) class index or ignore
  std::span<std::int32_t> label;            // (N)
  std::span<std::int64_t> sample_id;        // (N)
  std::span<std::uint32_t> epoch;           // (N) key of the augmentation
  std::vector<std::int32_t> original_size;  // (N, 2) height, width; host only
  std::vector<Geometry> geometry;           // (N) host only: maps predictions back

  double data_seconds = 0;  // the caller waited this long for it

  void set_bucket(int index);
  std::int64_t plane() const { return std::int64_t{height} * width; }
  std::size_t packed_stride() const { return packed.size() / static_cast<std::size_t>(num_images); }
  std::span<std::byte> packed_of(int n);
  // Image n from what was decoded: packed, or letter-boxed. REQUIRES: as letterbox().
  void write_image(int n, const Image& decoded, const Geometry& where,
                   const LetterboxOptions& options);
  // The part of `image` and `label_map` that the current bucket uses.
  std::span<float> image_values();
  std::span<float> image_of(int n);  // (C, H, W)
  std::span<std::int32_t> label_map_values();
  std::span<std::int32_t> label_map_of(int n);  // (H, W)
  void clear_image(int n, int ignore);          // makes image n padding
  void clear_boxes(int n, int first);  // zeros the boxes from `first` on, which becomes the count

 private:
  template <typename T>
  void give(std::span<T>& field, std::size_t count, std::size_t& offset_bytes) const;

  std::vector<Size> buckets_;
  comm::Buffer fields_;
};

}  // namespace trainer
