#include "trainer/feed.h"

#include "comm/buffer.h"

namespace trainer {

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

Feeder::Feeder(Loader& loader, comm::StreamView stream) : loader_(loader), stream_(stream) {
  for (int i = 0; i < loader.held(); ++i) copied_.emplace_back(stream.device());
}

Batch* Feeder::next() {
  const std::size_t oldest = count_ % copied_.size();
  if (count_ >= copied_.size()) copied_[oldest].synchronize();
  Batch* batch = loader_.next();
  ++count_;
  return batch;
}

void Feeder::feed(const models::Executable& executable, Batch& batch) {
  copy_field<float>(executable.input("image"), batch.image_values());
  copy_field<float>(executable.input("boxes"), batch.boxes);
  copy_field<std::int32_t>(executable.input("labels"), batch.labels);
  copy_field<std::int32_t>(executable.input("count"), batch.count);
  copy_field<std::int32_t>(executable.input("label_map"), batch.label_map_values());
  copy_field<std::int32_t>(executable.input("label"), batch.label);
  copy_field<std::int64_t>(executable.input("sample_id"), batch.sample_id);
  copy_field<std::uint32_t>(executable.input("epoch"), batch.epoch);
  stream_.record(copied_[(count_ - 1) % copied_.size()]);
}

template <typename T>
void Feeder::copy_field(const models::Tensor& input, std::span<const T> field) const {
  if (!input) return;
  REQUIRE(static_cast<std::int64_t>(field.size()) == input.shape.count(), "field of {} for {}",
          field.size(), models::to_string(input.shape));
  comm::copy_bytes(stream_, {input.data, field.size_bytes()}, std::as_bytes(field));
}

}  // namespace trainer
