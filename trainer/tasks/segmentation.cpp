// Segmentation: confusion of the pixels at the original size of each image.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "trainer/data/subset.h"
#include "trainer/eval/segmentation_eval.h"
#include "trainer/report/append_file.h"
#include "trainer/report/chart.h"
#include "trainer/report/pictures.h"
#include "trainer/tasks/answer.h"
#include "trainer/tasks/evaluator.h"
#include "trainer/tasks/label_maps.h"

namespace trainer {
namespace {

constexpr std::int64_t kImages = 6;

class SegmentationEvaluator final : public Evaluator {
 public:
  SegmentationEvaluator(const Dataset& dataset, const EvaluatorOptions& options)
      : dataset_(dataset),
        confusion_(options.num_classes, dataset.ignore()),
        label_maps_(options.label_maps) {
    if (!label_maps_.empty()) file_names_ = unique_stems(dataset);
    for (const std::int64_t sample : spread_indices(dataset.size(), kImages)) shown_[sample] = {};
  }

  void add(const HostOutputs& outputs, const Batch& batch, int n) override {
    const std::int64_t sample = batch.sample_id[static_cast<std::size_t>(n)];
    LabelImage predicted = read_label_map(outputs, batch, n);
    const LabelImage truth = dataset_.label_map(sample);
    const std::int64_t wrong = confusion_.add(truth.pixels, predicted.pixels);
    if (wrong >= 0) {
      comm::fail(comm::ExitCode::kData, "{}: label {} at pixel {}, {}; the model has {} classes",
                 dataset_.sample(sample).name, truth.pixels[static_cast<std::size_t>(wrong)],
                 wrong % truth.width, wrong / truth.width, confusion_.num_classes());
    }
    if (!label_maps_.empty()) {
      write_label_map(label_maps_ / (file_names_[static_cast<std::size_t>(sample)] + ".png"),
                      predicted, {confusion_.num_classes(), dataset_.has_background()});
    }
    const auto shown = shown_.find(sample);
    if (shown != shown_.end()) shown->second = std::move(predicted.pixels);
  }

  void gather(comm::Communicator& communicator) override {
    SegmentationConfusion sum(confusion_.num_classes(), dataset_.ignore());
    const auto counts = std::as_bytes(confusion_.counts());
    for (const std::string& bytes : communicator.all_gather(
             std::string(reinterpret_cast<const char*>(counts.data()), counts.size()))) {
      std::vector<std::int64_t> values(confusion_.counts().size());
      std::memcpy(values.data(), bytes.data(), bytes.size());
      sum.merge(values);
    }
    confusion_ = sum;
    for (auto& [sample, pixels] : shown_) pixels = gather(communicator, pixels);
    // Left out by on_error: skip.
    std::erase_if(shown_, [](const auto& entry) { return entry.second.empty(); });
  }

  Metrics metrics() const override { return {{confusion_.metrics(names())}}; }

  void write(const std::filesystem::path& folder) const override {
    ConfusionMatrix matrix{"Pixels", names(), names(), {}};
    for (std::int64_t count : confusion_.counts().first(confusion_.counts().size() - 1)) {
      matrix.counts.push_back(static_cast<double>(count));
    }
    write_file(folder / "confusion.svg", confusion_svg(matrix));
  }

  Image picture() const override {
    const bool background = dataset_.has_background();
    std::vector<Tile> tiles;
    for (const auto& [sample, pixels] : shown_) {
      const Image image = dataset_.image(sample).image;
      tiles.push_back({image, dataset_.sample(sample).name});
      tiles.push_back(
          {overlay_labels(image, dataset_.label_map(sample), {background, dataset_.ignore()}),
           "ground truth"});
      tiles.push_back(
          {overlay_labels(image, {image.width, image.height, pixels}, {background}), "prediction"});
    }
    return draw_grid(tiles, {6, "Predictions", label_map_legend(names(), background)});
  }

 private:
  std::vector<std::string> names() const {
    return names_of_classes(dataset_, confusion_.num_classes());
  }

  // The rank that has the prediction of a sample sends it.
  static std::vector<std::uint16_t> gather(comm::Communicator& communicator,
                                           const std::vector<std::uint16_t>& mine) {
    std::vector<std::uint16_t> pixels;
    for (const std::string& bytes : communicator.all_gather(std::string(
             reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(std::uint16_t)))) {
      if (bytes.empty()) continue;
      pixels.resize(bytes.size() / sizeof(std::uint16_t));
      std::memcpy(pixels.data(), bytes.data(), bytes.size());
    }
    return pixels;
  }

  const Dataset& dataset_;
  SegmentationConfusion confusion_;
  // Predicted label maps: their folder (empty: not written) and their names by sample.
  std::filesystem::path label_maps_;
  std::vector<std::string> file_names_;
  std::map<std::int64_t, std::vector<std::uint16_t>> shown_;  // predictions, by sample
};

}  // namespace

std::unique_ptr<Evaluator> make_segmentation_evaluator(const Dataset& dataset,
                                                       const EvaluatorOptions& options) {
  return std::make_unique<SegmentationEvaluator>(dataset, options);
}

}  // namespace trainer
