#include "trainer/evaluation.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "trainer/agree.h"
#include "trainer/data/coco_eval_input.h"
#include "trainer/data/loader.h"
#include "trainer/data/metrics_json.h"
#include "trainer/eval/coco_eval.h"
#include "trainer/eval/detection_confusion.h"
#include "trainer/eval/voc_eval.h"
#include "trainer/feed.h"
#include "trainer/report/append_file.h"
#include "trainer/report/chart.h"

namespace trainer {
namespace {

constexpr double kConfusionScore = 0.25;  // detections that a person would show

// This rank's detections.
std::vector<Found> detect_local(const EvaluationContext& context) {
  LoaderOptions options;
  options.seed = static_cast<std::uint64_t>(context.config.train.seed);
  options.micro_batch = context.config.train.micro_batch;
  options.rank = context.communicator.rank();
  options.num_ranks = context.communicator.size();
  options.threads = context.loader_threads;
  const auto loader = Loader::evaluate(context.dataset, context.config.data, options);
  std::vector<Found> found;
  models::StepObserver none;
  std::int64_t count = 0;
  while (Batch* batch = loader->next()) {
    context.progress.publish(comm::Phase::kEval, count++);
    models::Executable& plan = context.network.inference(static_cast<std::size_t>(batch->bucket));
    feed(plan, *batch);
    plan.run(none, context.parameter_version);
    for (int n = 0; n < batch->valid; ++n) {
      if (batch->sample_id[static_cast<std::size_t>(n)] < 0)
        continue;  // left out by on_error: skip
      const std::vector<Found> image = read_detections(plan, *batch, n);
      found.insert(found.end(), image.begin(), image.end());
    }
  }
  return found;
}

// All ranks' detections in order of the samples, on rank 0.
std::vector<Found> gather(const std::vector<Found>& mine, comm::Communicator& communicator) {
  const auto all = communicator.all_gather(
      std::string(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(Found)));
  std::vector<Found> found;
  if (communicator.rank() != 0) return found;
  for (const std::string& bytes : all) {
    const std::size_t old = found.size();
    found.resize(old + bytes.size() / sizeof(Found));
    if (!bytes.empty()) std::memcpy(found.data() + old, bytes.data(), bytes.size());
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Found& a, const Found& b) { return a.sample < b.sample; });
  return found;
}

MetricGroup score_voc(const std::vector<Found>& found, const Dataset& dataset) {
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
  for (std::int64_t s = 0; s < dataset.size(); ++s) {
    for (const Object& object : dataset.sample(s).objects) {
      const Corners& b = object.box;
      objects.push_back(
          {s, category(object.label), {b[0], b[1], b[2] - 1, b[3] - 1}, object.difficult});
    }
  }
  for (const Found& f : found) {
    const std::int64_t k = category(f.label);
    if (k < 0) continue;
    detections.push_back({f.sample, k, {f.box[0], f.box[1], f.box[2] - 1, f.box[3] - 1}, f.score});
  }
  const VocOptions options{static_cast<std::int64_t>(dataset.class_names().size())};
  return voc_metrics(evaluate_voc(objects, detections, options), dataset.class_names());
}

CocoResult score_boxes(const std::vector<Found>& found, const Dataset& dataset) {
  const CocoEvalData data =
      coco_eval_data(dataset.ground_truth(), coco_detections(found, dataset), IouType::kBox);
  return evaluate_coco(data.input(), IouType::kBox);
}

}  // namespace

std::vector<Found> read_detections(const models::Executable& executable, const Batch& batch,
                                   int n) {
  const models::Tensor boxes = executable.output("boxes"), scores = executable.output("scores");
  const models::Tensor labels = executable.output("labels");
  const std::int32_t count = executable.output("count").as<std::int32_t>()[n];
  const std::int64_t capacity = scores.shape[1];
  std::vector<Found> found;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t at = n * capacity + k;
    const float* b = boxes.f32() + at * 4;
    const Corners original =
        to_original(batch.geometry[static_cast<std::size_t>(n)], {b[0], b[1], b[2], b[3]});
    Found f{batch.sample_id[static_cast<std::size_t>(n)], labels.as<std::int32_t>()[at],
            scores.f32()[at]};
    std::copy(original.begin(), original.end(), f.box);
    found.push_back(f);
  }
  return found;
}

std::vector<CocoDetection> coco_detections(const std::vector<Found>& found,
                                           const Dataset& dataset) {
  std::vector<CocoDetection> detections;
  for (const Found& f : found) {
    const std::int64_t category = dataset.category_id(f.label);
    if (category < 0) continue;  // an index without a class: the background's, or a gap
    CocoDetection d;
    d.image_id = dataset.sample(f.sample).image_id;
    d.category_id = category;
    d.has_bbox = true;
    d.bbox = {f.box[0], f.box[1], f.box[2] - f.box[0], f.box[3] - f.box[1]};
    d.score = f.score;
    detections.push_back(std::move(d));
  }
  return detections;
}

Evaluation evaluate(const EvaluationContext& context) {
  std::vector<Found> mine;
  agree(context.communicator, [&] { mine = detect_local(context); });
  Evaluation evaluation;
  evaluation.found = gather(mine, context.communicator);
  agree(context.communicator, [&] {
    if (context.communicator.rank() != 0) return;
    evaluation.metrics.groups.push_back(coco_metrics(score_boxes(evaluation.found, context.dataset),
                                                     "bbox", context.dataset.class_names()));
    if (context.config.data.format == DataFormat::kVoc) {
      evaluation.metrics.groups.push_back(score_voc(evaluation.found, context.dataset));
    }
  });
  return evaluation;
}

double shared_metric(const Evaluation& evaluation, const std::string& path,
                     comm::Communicator& communicator) {
  double value = 0;
  agree(communicator, [&] {
    if (communicator.rank() != 0) return;
    const double* found = evaluation.metrics.find(path);
    if (!found) {
      std::string known;
      for (const auto& [name, number] : evaluation.metrics.flat()) known += " " + name;
      comm::fail(comm::ExitCode::kConfig, "checkpoint.best: no metric '{}'; there are:{}", path,
                 known);
    }
    value = *found;
  });
  communicator.broadcast(std::as_writable_bytes(std::span<double>(&value, 1)), 0);
  return value;
}

void write_evaluation(const Evaluation& evaluation, const Dataset& dataset,
                      const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const std::vector<CocoDetection> detections = coco_detections(evaluation.found, dataset);
  write_file(folder / "metrics.json", metrics_json(evaluation.metrics));
  write_file(folder / "detections.json", coco_detections_json(detections));

  const CocoEvalData data = coco_eval_data(dataset.ground_truth(), detections, IouType::kBox);
  const CocoResult result = evaluate_coco(data.input(), IouType::kBox);
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
    add(data.category_names[k], result.per_class[k].precision50, result.per_class[k].stats[kAp50]);
  }
  write_file(folder / "pr_curve.svg", precision_recall_svg("Precision at IoU 0.5", curves));

  const DetectionConfusion confusion = detection_confusion(data.input(), kConfusionScore);
  ConfusionMatrix matrix{
      "Detections at IoU 0.5, score 0.25", data.category_names, data.category_names, {}};
  matrix.truths.push_back("nothing");
  matrix.predictions.push_back("missed");
  for (std::int64_t count : confusion.counts) matrix.counts.push_back(static_cast<double>(count));
  write_file(folder / "confusion.svg", confusion_svg(matrix));
}

}  // namespace trainer
