#include "trainer/feed.h"

#include "comm/range.h"

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

LoaderOptions training_input(const Config& config, const comm::Communicator& communicator,
                             comm::Device device, int threads) {
  LoaderOptions options;
  options.fields = fields_of(config.model.name);
  options.seed = static_cast<std::uint64_t>(config.train.seed);
  options.batch = config.train.batch;
  options.micro_batch = config.train.micro_batch;
  options.rank = communicator.rank();
  options.num_ranks = communicator.size();
  options.threads = threads;
  options.device = device;
  return options;
}

Feeder::Feeder(Loader& loader, comm::StreamView stream) : loader_(loader), stream_(stream) {
  for (int i = 0; i < loader.held(); ++i) copied_.emplace_back(stream.device());
  if (loader.packed_bytes() > 0) packed_.emplace(stream.device(), loader.packed_bytes());
}

Batch* Feeder::next() {
  const std::size_t oldest = count_ % copied_.size();
  if (count_ >= copied_.size()) copied_[oldest].synchronize();
  Batch* batch = loader_.next();
  ++count_;
  return batch;
}

void Feeder::feed(const models::Executable& executable, Batch& batch) {
  feed_images(executable.input("image"), batch);
  copy_field<float>(executable.input("boxes"), batch.boxes);
  copy_field<std::int32_t>(executable.input("labels"), batch.labels);
  copy_field<std::int32_t>(executable.input("count"), batch.count);
  copy_field<std::int32_t>(executable.input("label_map"), batch.label_map_values());
  copy_field<std::int32_t>(executable.input("label"), batch.label);
  copy_field<std::int64_t>(executable.input("sample_id"), batch.sample_id);
  copy_field<std::uint32_t>(executable.input("epoch"), batch.epoch);
  stream_.record(copied_[(count_ - 1) % copied_.size()]);
}

void Feeder::feed_images(const models::Tensor& input, Batch& batch) {
  if (!packed_) return copy_field<float>(input, batch.image_values());
  const models::Shape shape = {batch.num_images, batch.channels, batch.height, batch.width};
  REQUIRE(input.shape == shape, "images {} for {}", models::to_string(shape),
          models::to_string(input.shape));
  const comm::ScopedRange range("input");
  const comm::StreamView copies = packed_->copies;
  copies.wait(packed_->placed);
  const std::size_t stride = batch.packed_stride();
  for (int n = 0; n < batch.num_images; ++n) {
    const std::span<const std::byte> image = used_part(batch.packed_of(n));
    comm::copy_bytes(
        copies, packed_->images.bytes().subspan(static_cast<std::size_t>(n) * stride, image.size()),
        image);
  }
  copies.record(packed_->copied);
  stream_.wait(packed_->copied);
  place_images(stream_, {packed_->images.bytes().data(), stride},
               {.data = input.data,
                .bf16 = input.type == models::Type::kBF16,
                .channels_last = input.channel_block > 1,
                .num = shape[0],
                .channels = shape[1],
                .height = shape[2],
                .width = shape[3]});
  stream_.record(packed_->placed);
}

template <typename T>
void Feeder::copy_field(const models::Tensor& input, std::span<const T> field) const {
  if (!input) return;
  REQUIRE(static_cast<std::int64_t>(field.size()) == input.shape.count(), "field of {} for {}",
          field.size(), models::to_string(input.shape));
  comm::copy_bytes(stream_, {input.data, field.size_bytes()}, std::as_bytes(field));
}

}  // namespace trainer
