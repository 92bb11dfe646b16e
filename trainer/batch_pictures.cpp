#include "trainer/batch_pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "trainer/data/loader.h"
#include "trainer/feed.h"
#include "trainer/report/append_file.h"
#include "trainer/report/pictures.h"
#include "trainer/tasks/evaluator.h"

namespace trainer {
namespace {

constexpr int kImages = 16;
constexpr int kSmallest = 96;  // pixels; smaller pictures are enlarged

// The network's input as a picture; one channel is shown as gray.
Image picture_of(const Config& config, Batch& batch, int n) {
  std::array<float, 3> mean, std;
  std::vector<float> planar;
  const std::span<const float> channels = batch.image_of(n);
  const std::int64_t plane = batch.plane();
  for (std::size_t c = 0; c < 3; ++c) {
    const std::size_t from = batch.channels == 3 ? c : 0;
    const auto value = [&](const std::vector<double>& of) {  // one stands for all channels
      return static_cast<float>(of[std::min(from, of.size() - 1)]);
    };
    mean[c] = value(config.data.mean);
    std[c] = value(config.data.std);
    const auto values =
        channels.subspan(from * static_cast<std::size_t>(plane), static_cast<std::size_t>(plane));
    planar.insert(planar.end(), values.begin(), values.end());
  }
  return denormalise(planar, batch.width, batch.height, mean, std);
}

void draw_objects(const Dataset& dataset, const Batch& batch, int n, Image& image) {
  std::vector<DrawnBox> boxes;
  for (int k = 0; k < batch.count[static_cast<std::size_t>(n)]; ++k) {
    const std::size_t at = static_cast<std::size_t>(n) * batch.max_boxes + k;
    const float* b = batch.boxes.data() + at * 4;
    boxes.push_back(
        {b[0], b[1], b[2], b[3], batch.labels[at], dataset.class_name(batch.labels[at]), true});
  }
  draw_boxes(image, boxes);
}

Image with_label_map(const Dataset& dataset, Batch& batch, int n, const Image& image) {
  LabelImage labels{batch.width, batch.height, {}};
  for (const std::int32_t label : batch.label_map_of(n)) {
    labels.pixels.push_back(static_cast<std::uint16_t>(label));
  }
  return overlay_labels(image, labels, {dataset.has_background(), dataset.ignore()});
}

void draw_batch(const Config& config, const Dataset& dataset, Batch& batch,
                const std::filesystem::path& file) {
  std::vector<Tile> tiles;
  for (int n = 0; n < std::min(batch.num_images, kImages); ++n) {
    Image image = picture_of(config, batch, n);
    const std::int64_t id = batch.sample_id[static_cast<std::size_t>(n)];
    std::string caption = id < 0 ? "" : dataset.sample(id).name;
    if (!batch.count.empty()) draw_objects(dataset, batch, n, image);
    if (!batch.label_map.empty()) image = with_label_map(dataset, batch, n, image);
    if (!batch.label.empty())
      caption = dataset.class_name(batch.label[static_cast<std::size_t>(n)]);
    image = enlarged(image, std::max(1, kSmallest / std::max(image.width, image.height)));
    tiles.push_back({std::move(image), caption});
  }
  const bool map = !batch.label_map.empty();
  make_folders(file.parent_path());
  write_png(
      file,
      draw_grid(tiles, {4, "Training batch",
                        map ? label_map_legend(names_of_classes(dataset, dataset.num_classes()),
                                               dataset.has_background())
                            : class_legend(dataset)}));
}

}  // namespace

void draw_batches(const Config& config, const Dataset& dataset, int count,
                  const std::filesystem::path& folder) {
  LoaderOptions options;
  options.fields = fields_of(config.model.name);
  options.seed = static_cast<std::uint64_t>(config.train.seed);
  options.batch = config.train.batch;
  options.micro_batch = config.train.micro_batch;
  const auto loader = Loader::train(dataset, config.data, options);
  for (int i = 0; i < count; ++i) {
    draw_batch(config, dataset, *loader->next(), folder / fmt::format("train_batch_{}.png", i));
  }
}

}  // namespace trainer
