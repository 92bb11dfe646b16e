#include "trainer/feed.h"

#include <cstring>

namespace trainer {
namespace {

template <typename T>
void copy_field(const models::Tensor& input, std::span<const T> field) {
  if (!input) return;
  REQUIRE(static_cast<std::int64_t>(field.size()) == input.shape.count(), "field of {} for {}",
          field.size(), models::to_string(input.shape));
  std::memcpy(input.data, field.data(), field.size_bytes());
}

}  // namespace

Fields fields_of(ModelName model) {
  switch (model) {
    case ModelName::kRetinanet: return {.boxes = true};
    case ModelName::kFcn: return {.label_map = true};
    case ModelName::kMlp:
    case ModelName::kCnn:
    case ModelName::kClassifier: return {.label = true};
  }
  REQUIRE(false, "model {}", static_cast<int>(model));
  return {};
}

void feed(models::Executable& executable, Batch& batch) {
  copy_field<float>(executable.input("image"), batch.image_values());
  copy_field<float>(executable.input("boxes"), batch.boxes);
  copy_field<std::int32_t>(executable.input("labels"), batch.labels);
  copy_field<std::int32_t>(executable.input("count"), batch.count);
  copy_field<std::int32_t>(executable.input("label_map"), batch.label_map_values());
  copy_field<std::int32_t>(executable.input("label"), batch.label);
  copy_field<std::int64_t>(executable.input("sample_id"), batch.sample_id);
  copy_field<std::uint32_t>(executable.input("epoch"), batch.epoch);
}

}  // namespace trainer
