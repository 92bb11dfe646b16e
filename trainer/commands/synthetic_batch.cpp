#include "trainer/commands/synthetic_batch.h"

#include <algorithm>

#include "comm/random.h"

namespace trainer {
namespace {

constexpr int kBoxes = 4;  // an image

// A stream of uniform numbers in [0, 1) of its own for each input.
class Draws {
 public:
  explicit Draws(std::uint64_t stream) : stream_(stream) {}
  float next() {
    if (at_ == 4) {
      block_ = comm::philox(1, comm::Purpose::kSynthetic, stream_, 0, count_++);
      at_ = 0;
    }
    return comm::uniform(block_.v[at_++]);
  }
  // In [low, high).
  std::int32_t integer(int low, int high) {
    return low + static_cast<std::int32_t>(next() * static_cast<float>(high - low));
  }

 private:
  std::uint64_t stream_;
  std::uint32_t count_ = 0;
  comm::Random4 block_{};
  int at_ = 4;
};

void fill_boxes(const models::Tensor& boxes, float height, float width) {
  Draws draws(2);
  const std::int64_t capacity = boxes.shape[1];
  for (std::int64_t n = 0; n < boxes.shape[0]; ++n) {
    for (std::int64_t k = 0; k < std::min<std::int64_t>(kBoxes, capacity); ++k) {
      float* b = boxes.f32() + (n * capacity + k) * 4;
      b[0] = draws.next() * 0.5f * width;
      b[1] = draws.next() * 0.5f * height;
      b[2] = b[0] + (0.1f + 0.4f * draws.next()) * width;
      b[3] = b[1] + (0.1f + 0.4f * draws.next()) * height;
    }
  }
}

void fill_classes(const models::Tensor& classes, std::uint64_t stream, int low, int high) {
  Draws draws(stream);
  auto* values = classes.as<std::int32_t>();
  for (std::int64_t i = 0; i < classes.shape.count(); ++i) values[i] = draws.integer(low, high);
}

}  // namespace

void fill_synthetic(models::Executable& executable, int num_classes) {
  const models::Tensor image = executable.input("image");
  Draws noise(1);
  for (std::int64_t i = 0; i < image.shape.count(); ++i) {
    image.f32()[i] = 4.0f * noise.next() - 2.0f;
  }
  if (const models::Tensor boxes = executable.input("boxes")) {
    fill_boxes(boxes, static_cast<float>(image.shape[2]), static_cast<float>(image.shape[3]));
    fill_classes(executable.input("labels"), 3, 1, num_classes);
    const models::Tensor count = executable.input("count");
    const auto boxes_an_image =
        static_cast<std::int32_t>(std::min<std::int64_t>(kBoxes, boxes.shape[1]));
    std::fill_n(count.as<std::int32_t>(), count.shape.count(), boxes_an_image);
  }
  if (const models::Tensor map = executable.input("label_map"))
    fill_classes(map, 4, 0, num_classes);
  if (const models::Tensor label = executable.input("label"))
    fill_classes(label, 5, 0, num_classes);
}

}  // namespace trainer
