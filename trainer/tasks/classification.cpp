// Classification: accuracy and softmax cross-entropy.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "trainer/eval/classification_eval.h"
#include "trainer/report/append_file.h"
#include "trainer/report/chart.h"
#include "trainer/report/pictures.h"
#include "trainer/tasks/answer.h"
#include "trainer/tasks/evaluator.h"

namespace trainer {
namespace {

constexpr std::size_t kImages = 24;
constexpr int kSmallest = 96;  // pixels; smaller pictures are enlarged

double cross_entropy(std::span<const float> logits, int label) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return std::log(sum) - (logits[static_cast<std::size_t>(label)] - largest);
}

class ClassificationEvaluator final : public Evaluator {
 public:
  ClassificationEvaluator(const Dataset& dataset, int num_classes)
      : dataset_(dataset), num_classes_(num_classes) {}

  void add(const HostOutputs& outputs, const Batch& batch, int n) override {
    const std::vector<Answer> classes = read_classes(outputs, batch, n, num_classes_);
    const int truth = dataset_.sample(classes[0].sample).label;
    const auto is_truth = [&](const Answer& answer) { return answer.label == truth; };
    answers_.push_back(classes[0]);
    answers_.push_back(*std::find_if(classes.begin(), classes.end(), is_truth));
    const float* logits = outputs.output("logits").f32() + n * num_classes_;
    sums_.add(is_truth(classes[0]), cross_entropy({logits, classes.size()}, truth));
  }

  void gather(comm::Communicator& communicator) override {
    answers_ = gather_answers(answers_, communicator);
    const auto mine = std::as_bytes(std::span(sums_.counts()));
    ClassificationSums sums;
    for (const std::string& bytes : communicator.all_gather(
             std::string(reinterpret_cast<const char*>(mine.data()), mine.size()))) {
      ClassificationSums::Counts counts;
      std::memcpy(counts.data(), bytes.data(), sizeof(counts));
      sums.merge(counts);
    }
    sums_ = sums;
  }

  Metrics metrics() const override { return {{sums_.metrics()}}; }

  void write(const std::filesystem::path& folder) const override {
    const auto names = names_of_classes(dataset_, num_classes_);
    ConfusionMatrix matrix{"Images", names, names, {}};
    matrix.counts.resize(names.size() * names.size());
    for (std::size_t i = 0; i + 1 < answers_.size(); i += 2) {
      matrix.counts[static_cast<std::size_t>(answers_[i + 1].label) * names.size() +
                    static_cast<std::size_t>(answers_[i].label)] += 1;
    }
    write_file(folder / "confusion.svg", confusion_svg(matrix));
  }

  // Mistakes first: they are what one wants to see.
  Image picture() const override {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i + 1 < answers_.size(); i += 2) order.push_back(i);
    std::stable_partition(order.begin(), order.end(), [&](std::size_t i) {
      return answers_[i].label != answers_[i + 1].label;
    });
    std::vector<Tile> tiles;
    for (std::size_t i : order) {
      if (tiles.size() == kImages) break;
      const Answer &best = answers_[i], &truth = answers_[i + 1];
      Image image = dataset_.image(best.sample).image;
      image = enlarged(image, std::max(1, kSmallest / std::max(image.width, image.height)));
      tiles.push_back(
          {std::move(image), fmt::format("{}: {} {:.2f}", dataset_.class_name(truth.label),
                                         dataset_.class_name(best.label), best.score)});
    }
    return draw_grid(tiles, {8, "Truth: prediction and its probability, mistakes first", {}});
  }

 private:
  const Dataset& dataset_;
  int num_classes_;
  std::vector<Answer> answers_;  // two a sample: the likeliest class, then the true one
  ClassificationSums sums_;
};

}  // namespace

std::unique_ptr<Evaluator> make_classification_evaluator(const Dataset& dataset, int num_classes) {
  return std::make_unique<ClassificationEvaluator>(dataset, num_classes);
}

}  // namespace trainer
