#include "trainer/commands/synthetic_batch.h"

#include <algorithm>
#include <span>
#include <vector>

#include "comm/buffer.h"
#include "comm/random.h"
#include "models/graph/reorder.h"

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

std::vector<float> boxes_of(const models::Tensor& boxes, float height, float width) {
  Draws draws(2);
  const std::int64_t capacity = boxes.shape[1];
  std::vector<float> values(static_cast<std::size_t>(boxes.shape.count()));
  for (std::int64_t n = 0; n < boxes.shape[0]; ++n) {
    for (std::int64_t k = 0; k < std::min<std::int64_t>(kBoxes, capacity); ++k) {
      float* b = values.data() + (n * capacity + k) * 4;
      b[0] = draws.next() * 0.5f * width;
      b[1] = draws.next() * 0.5f * height;
      b[2] = b[0] + (0.1f + 0.4f * draws.next()) * width;
      b[3] = b[1] + (0.1f + 0.4f * draws.next()) * height;
    }
  }
  return values;
}

std::vector<std::int32_t> classes_of(const models::Tensor& classes, std::uint64_t stream, int low,
                                     int high) {
  Draws draws(stream);
  std::vector<std::int32_t> values(static_cast<std::size_t>(classes.shape.count()));
  for (std::int32_t& value : values) value = draws.integer(low, high);
  return values;
}

// Waits: the values are a temporary.
template <typename T>
void give(comm::StreamView stream, const models::Tensor& input, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  comm::copy_bytes(stream, {input.data, bytes.size()}, bytes);
  stream.synchronize();
}

}  // namespace

void fill_synthetic(models::Executable& executable, comm::StreamView stream, int num_classes) {
  const models::Tensor image = executable.input("image");
  Draws noise(1);
  std::vector<float> pixels(static_cast<std::size_t>(image.shape.count()));
  for (float& pixel : pixels) pixel = 4.0f * noise.next() - 2.0f;
  models::Tensor plain{nullptr, models::Type::kF32, image.shape};
  const comm::Buffer staged(stream.device(), pixels.size() * sizeof(float));
  plain.data = staged.bytes().data();
  give(stream, plain, pixels);
  models::reorder(stream, plain, image, false);
  stream.synchronize();
  if (const models::Tensor boxes = executable.input("boxes")) {
    give(stream, boxes,
         boxes_of(boxes, static_cast<float>(image.shape[2]), static_cast<float>(image.shape[3])));
    const models::Tensor labels = executable.input("labels"), count = executable.input("count");
    give(stream, labels, classes_of(labels, 3, 1, num_classes));
    const auto boxes_an_image =
        static_cast<std::int32_t>(std::min<std::int64_t>(kBoxes, boxes.shape[1]));
    give(stream, count, std::vector(static_cast<std::size_t>(count.shape.count()), boxes_an_image));
  }
  if (const models::Tensor map = executable.input("label_map"))
    give(stream, map, classes_of(map, 4, 0, num_classes));
  if (const models::Tensor label = executable.input("label"))
    give(stream, label, classes_of(label, 5, 0, num_classes));
}

}  // namespace trainer
