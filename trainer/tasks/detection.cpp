// Detection: COCO's AP and AR of boxes, on VOC data VOC's mAP as well.
#include <fmt/format.h>

#include <ranges>

#include "trainer/data/coco_eval_input.h"
#include "trainer/data/subset.h"
#include "trainer/eval/coco_eval.h"
#include "trainer/eval/detection_confusion.h"
#include "trainer/eval/voc_eval.h"
#include "trainer/report/append_file.h"
#include "trainer/report/chart.h"
#include "trainer/report/pictures.h"
#include "trainer/tasks/answer.h"
#include "trainer/tasks/evaluator.h"

namespace trainer {
namespace {

constexpr double kConfusionScore = 0.25;  // detections that a person would show
constexpr int kImages = 8;
constexpr float kShownScore = 0.4f;  // fainter guesses would hide the picture

MetricGroup score_voc(const std::vector<Answer>& answers, const Dataset& dataset,
                      const std::vector<std::int64_t>& samples) {
  // Corners are inclusive there: pixel i covers [i, i + 1) here.
  std::vector<VocObject> objects;
  std::vector<VocDetection> detections;
  const auto category = [&](int label) {
    const auto& names = dataset.class_names();
    for (std::size_t k = 0; k < names.size(); ++k) {
      if (dataset.class_label(k) == label) return static_cast<std::int64_t>(k);
    }
    return std::int64_t{-1};
  };
  for (const std::int64_t s : samples) {
    for (const Object& object : dataset.sample(s).objects) {
      const Corners& b = object.box;
      objects.push_back(
          {s, category(object.label), {b[0], b[1], b[2] - 1, b[3] - 1}, object.difficult});
    }
  }
  for (const Answer& a : answers) {
    const std::int64_t k = category(a.label);
    if (k < 0) continue;
    detections.push_back({a.sample, k, {a.box[0], a.box[1], a.box[2] - 1, a.box[3] - 1}, a.score});
  }
  const VocOptions options{static_cast<std::int64_t>(dataset.class_names().size())};
  return voc_metrics(evaluate_voc(objects, detections, options), dataset.class_names());
}

std::vector<PrecisionRecallCurve> curves_at_iou_50(const CocoResult& result,
                                                   const std::vector<std::string>& names) {
  std::vector<PrecisionRecallCurve> curves;
  const auto add = [&](const std::string& name, const PrecisionCurve& precision, double ap) {
    PrecisionRecallCurve curve{name, {}, {}, ap};
    for (int r = 0; r < kNumRecalls; ++r) {
      curve.recall.push_back(r / 100.0);
      curve.precision.push_back(precision[static_cast<std::size_t>(r)]);
    }
    curves.push_back(std::move(curve));
  };
  add("mean", result.precision50, result.stats[kAp50]);
  for (std::size_t k = 0; k < result.per_class.size(); ++k) {
    add(names[k], result.per_class[k].precision50, result.per_class[k].stats[kAp50]);
  }
  return curves;
}

class DetectionEvaluator final : public Evaluator {
 public:
  DetectionEvaluator(const Config& config, const Dataset& dataset)
      : voc_(config.data.format == DataFormat::kVoc), dataset_(dataset) {}

  void add(const HostOutputs& outputs, const Batch& batch, int n) override {
    const std::vector<Answer> answers = read_detections(outputs, batch, n);
    answers_.insert(answers_.end(), answers.begin(), answers.end());
    samples_.push_back(batch.sample_id[static_cast<std::size_t>(n)]);
  }

  void gather(comm::Communicator& communicator) override {
    answers_ = gather_answers(answers_, communicator);
    samples_ = gather_samples(samples_, communicator);
  }

  Metrics metrics() const override {
    const CocoEvalData data = eval_data();
    Metrics metrics;
    metrics.groups.push_back(
        coco_metrics(evaluate_coco(data.input(), IouType::kBox), "bbox", data.category_names));
    if (voc_) metrics.groups.push_back(score_voc(answers_, dataset_, samples_));
    return metrics;
  }

  void write(const std::filesystem::path& folder) const override {
    write_file(folder / "detections.json",
               coco_detections_json(coco_detections(answers_, dataset_)));
    const CocoEvalData data = eval_data();
    const CocoResult result = evaluate_coco(data.input(), IouType::kBox);
    write_file(folder / "pr_curve.svg",
               precision_recall_svg("Precision at IoU 0.5",
                                    curves_at_iou_50(result, data.category_names)));
    const DetectionConfusion confusion = detection_confusion(data.input(), kConfusionScore);
    ConfusionMatrix matrix{
        "Detections at IoU 0.5, score 0.25", data.category_names, data.category_names, {}};
    matrix.truths.push_back("nothing");
    matrix.predictions.push_back("missed");
    for (std::int64_t count : confusion.counts) matrix.counts.push_back(static_cast<double>(count));
    write_file(folder / "confusion.svg", confusion_svg(matrix));
  }

  Image picture() const override {
    std::vector<Tile> tiles;
    for (const std::int64_t s : samples_ | std::views::take(kImages)) {
      Image image = dataset_.image(s).image;
      std::vector<DrawnBox> boxes;
      for (const Object& object : dataset_.sample(s).objects) {
        const Corners& b = object.box;
        boxes.push_back({static_cast<float>(b[0]), static_cast<float>(b[1]),
                         static_cast<float>(b[2]), static_cast<float>(b[3]), object.label, "",
                         true});
      }
      for (const Answer& a : answers_) {
        if (a.sample != s || a.score < kShownScore) continue;
        boxes.push_back({static_cast<float>(a.box[0]), static_cast<float>(a.box[1]),
                         static_cast<float>(a.box[2]), static_cast<float>(a.box[3]), a.label,
                         fmt::format("{} {:.2f}", dataset_.class_name(a.label), a.score)});
      }
      draw_boxes(image, boxes);
      tiles.push_back({std::move(image), dataset_.sample(s).name});
    }
    auto legend = class_legend(dataset_);
    legend.push_back({{90, 90, 90}, "ground truth", true});
    return draw_grid(tiles, {4, "Predictions", legend});
  }

 private:
  CocoEvalData eval_data() const {
    return coco_eval_data(ground_truth_of(dataset_, samples_), coco_detections(answers_, dataset_),
                          IouType::kBox);
  }

  bool voc_;
  const Dataset& dataset_;
  std::vector<Answer> answers_;
  std::vector<std::int64_t> samples_;  // that were added
};

}  // namespace

std::unique_ptr<Evaluator> make_detection_evaluator(const Config& config, const Dataset& dataset) {
  return std::make_unique<DetectionEvaluator>(config, dataset);
}

}  // namespace trainer
