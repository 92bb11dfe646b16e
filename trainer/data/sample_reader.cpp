#include "trainer/data/sample_reader.h"

#include <algorithm>

#include "trainer/data/size_buckets.h"

namespace trainer {

SampleReader::SampleReader(const Dataset& dataset, const DataConfig& config,
                           const ReaderOptions& options)
    : dataset_(dataset), config_(config), options_(options), buckets_(size_buckets(config)) {
  REQUIRE(!config.mean.empty() && !config.std.empty(), "mean or std without values");
  for (std::size_t c = 0; c < 3; ++c) {  // one value stands for all channels
    letterbox_.normalization.mean[c] =
        static_cast<float>(config.mean[std::min(c, config.mean.size() - 1)]);
    letterbox_.normalization.std[c] =
        static_cast<float>(config.std[std::min(c, config.std.size() - 1)]);
  }
  letterbox_.antialias = config.antialias;
}

Geometry SampleReader::geometry(std::int64_t sample, const Augmentation& augmentation,
                                Size original, Size network) const {
  if (config_.resize == Resize::kNone && original != network)
    throw SampleError(AnomalyKind::kSizeMismatch,
                      fmt::format("{}: {}x{} pixels, data.size is {}x{} and data.resize none; use "
                                  "fit or crop",
                                  trainer::quoted(dataset_.sample(sample).name), original.width,
                                  original.height, network.width, network.height));
  return options_.augment ? augmented_geometry(config_, augmentation, original, network)
                          : evaluation_geometry(config_, options_.fields.label, original, network);
}

void SampleReader::read(const Draw& draw, Batch& batch, int n) const {
  const Size network = {.width = batch.width, .height = batch.height};
  const Augmentation augmentation =
      options_.augment ? draw_augmentation(config_, options_.seed, draw) : Augmentation();
  Geometry where;
  ShrunkImage decoded = dataset_.image(draw.sample, [&](Size original) {
    where = geometry(draw.sample, augmentation, original, network);
    return needed_size(where, config_.antialias);
  });
  if (augmentation.jitter) apply_jitter(decoded.image, *augmentation.jitter);
  LetterboxOptions options = letterbox_;
  options.shrink = decoded.shrink;
  batch.write_image(n, decoded.image, where, options);
  const Sample& sample = dataset_.sample(draw.sample);
  const auto i = static_cast<std::size_t>(n);
  if (options_.fields.boxes) write_boxes(sample, where, batch, n);
  if (options_.fields.label_map)
    letterbox_labels(checked_label_map(draw.sample, decoded.info), where, network,
                     dataset_.ignore(), batch.label_map_of(n));
  if (options_.fields.label) batch.label[i] = sample.label;
  batch.sample_id[i] = draw.sample;
  batch.original_size[2 * i] = where.original_h;
  batch.original_size[2 * i + 1] = where.original_w;
  batch.epoch[i] = draw.epoch;
  batch.geometry[i] = where;
}

LabelImage SampleReader::check(std::int64_t sample) const {
  const ShrunkImage decoded = dataset_.image(sample);
  const Size original = {.width = decoded.info.width, .height = decoded.info.height};
  const int bucket = least_padding_bucket(buckets_, original);
  geometry(sample, {}, original, buckets_[static_cast<std::size_t>(bucket)]);
  return options_.fields.label_map ? checked_label_map(sample, decoded.info) : LabelImage();
}

void SampleReader::write_boxes(const Sample& sample, const Geometry& where, Batch& batch,
                               int n) const {
  const auto first = static_cast<std::size_t>(n) * static_cast<std::size_t>(batch.max_boxes);
  int count = 0;
  for (const Object& object : sample.objects) {
    if (!object.trained) continue;
    const Corners box = to_network(where, object.box);
    if (!(box[2] > box[0] && box[3] > box[1])) continue;
    if (options_.augment && visible_share(where, object.box) < kMinVisibleShare) continue;
    REQUIRE(count < batch.max_boxes, "{}: more than {} boxes", trainer::quoted(sample.name),
            batch.max_boxes);
    const std::size_t i = first + static_cast<std::size_t>(count++);
    for (std::size_t k = 0; k < 4; ++k) batch.boxes[4 * i + k] = static_cast<float>(box[k]);
    batch.labels[i] = object.label;
  }
  batch.clear_boxes(n, count);
}

LabelImage SampleReader::checked_label_map(std::int64_t sample, const ImageInfo& info) const {
  LabelImage labels = dataset_.label_map(sample);
  if (labels.width != info.width || labels.height != info.height)
    throw SampleError(AnomalyKind::kSizeMismatch,
                      fmt::format("{}: the label image has {}x{} pixels, the image {}x{}",
                                  trainer::quoted(dataset_.sample(sample).label_file), labels.width,
                                  labels.height, info.width, info.height));
  return labels;
}

}  // namespace trainer
