#include "trainer/prediction_pictures.h"

#include <fmt/format.h>

#include <algorithm>

#include "trainer/data/loader.h"
#include "trainer/feed.h"
#include "trainer/report/pictures.h"

namespace trainer {
namespace {

constexpr int kImages = 8;
constexpr float kShownScore = 0.4f;  // fainter guesses would hide the picture

std::vector<LegendEntry> legend(const Dataset& dataset) {
  std::vector<LegendEntry> entries;
  for (std::size_t k = 0; k < std::min<std::size_t>(dataset.class_names().size(), 12); ++k) {
    entries.push_back({class_color(dataset.class_label(k)), dataset.class_names()[k]});
  }
  entries.push_back({{90, 90, 90}, "ground truth", true});
  return entries;
}

std::array<float, 3> triple(const std::vector<double>& values) {
  return {static_cast<float>(values[0]), static_cast<float>(values[1]),
          static_cast<float>(values[2])};
}

void save(const Image& image, const std::filesystem::path& file) {
  std::filesystem::create_directories(file.parent_path());
  write_png(file, image);
}

void draw_batch(const Config& config, const Dataset& dataset, Batch& batch,
                const std::filesystem::path& file) {
  if (batch.channels != 3) return;
  std::vector<Tile> tiles;
  for (int n = 0; n < batch.num_images; ++n) {
    Image image = denormalise(batch.image_of(n), batch.width, batch.height,
                              triple(config.data.mean), triple(config.data.std));
    std::vector<DrawnBox> boxes;
    const int count = batch.count.empty() ? 0 : batch.count[static_cast<std::size_t>(n)];
    for (int k = 0; k < count; ++k) {
      const std::size_t at = static_cast<std::size_t>(n) * batch.max_boxes + k;
      const float* b = batch.boxes.data() + at * 4;
      boxes.push_back({b[0], b[1], b[2], b[3], batch.labels[at],
                       dataset.class_name(batch.labels[at]), true});
    }
    draw_boxes(image, boxes);
    const std::int64_t id = batch.sample_id[static_cast<std::size_t>(n)];
    tiles.push_back({std::move(image), id < 0 ? "" : dataset.sample(id).name});
  }
  save(draw_grid(tiles, {4, "Training batch", legend(dataset)}),
       file);
}

}  // namespace

void draw_predictions(const Config&, const Dataset& dataset, const Evaluation& evaluation,
                      const std::filesystem::path& file) {
  std::vector<Tile> tiles;
  for (std::int64_t s = 0; s < std::min<std::int64_t>(dataset.size(), kImages); ++s) {
    Image image = dataset.image(s).image;
    std::vector<DrawnBox> boxes;
    for (const Object& object : dataset.sample(s).objects) {
      const Corners& b = object.box;
      boxes.push_back({static_cast<float>(b[0]), static_cast<float>(b[1]),
                       static_cast<float>(b[2]), static_cast<float>(b[3]), object.label, "", true});
    }
    for (const Found& f : evaluation.found) {
      if (f.sample != s || f.score < kShownScore) continue;
      boxes.push_back({static_cast<float>(f.box[0]), static_cast<float>(f.box[1]),
                       static_cast<float>(f.box[2]), static_cast<float>(f.box[3]), f.label,
                       fmt::format("{} {:.2f}", dataset.class_name(f.label), f.score)});
    }
    draw_boxes(image, boxes);
    tiles.push_back({std::move(image), dataset.sample(s).name});
  }
  save(draw_grid(tiles, {4, "Predictions", legend(dataset)}), file);
}

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
