#include "trainer/network.h"

namespace trainer {
namespace {

models::NormKind norm_kind(Norm norm) {
  switch (norm) {
    case Norm::kFrozen:
      return models::NormKind::kFrozen;
    case Norm::kGroup:
      return models::NormKind::kGroup;
    case Norm::kBatch:
      return models::NormKind::kBatch;
    case Norm::kSync:
      return models::NormKind::kSync;
  }
  return models::NormKind::kBatch;
}

}  // namespace

std::unique_ptr<models::Model> configured_model(const Config& config, int num_classes) {
  const ModelConfig& m = config.model;
  models::ModelOptions options;
  options.name = to_string(m.name);
  options.backbone = to_string(m.backbone);
  options.num_classes = num_classes;
  options.norm = norm_kind(m.norm);
  options.norm_eps = static_cast<float>(m.norm_eps);
  options.trainable_stages = m.trainable_stages;
  options.seed = static_cast<std::uint64_t>(config.train.seed);
  options.dropout = static_cast<float>(m.dropout);
  options.anchor_sizes = m.anchors.sizes;
  options.anchor_ratios = m.anchors.ratios;
  options.detect.score_threshold = static_cast<float>(config.eval.score_threshold);
  options.detect.nms_iou = static_cast<float>(config.eval.nms);
  options.detect.capacity = config.eval.detections;
  options.head = to_string(m.head);
  options.aux = m.aux;
  options.learned_deconvolution = m.deconvolution == Deconvolution::kLearned;
  options.loss_sum = m.loss_reduction == LossReduction::kSum;
  options.ignore = config.data.ignore;
  options.layers = m.layers;
  options.label_smoothing = static_cast<float>(m.label_smoothing);
  return models::make_model(options);
}

int num_classes_for(const Config& config, const Dataset& dataset) {
  const ModelConfig& m = config.model;
  const bool by_layers = m.name == ModelName::kMlp && !m.layers.empty();
  const int num_classes = m.num_classes ? *m.num_classes
                          : by_layers   ? m.layers.back()
                                        : dataset.num_classes();
  if (num_classes < dataset.num_classes()) {
    comm::fail(comm::ExitCode::kConfig,
               "{}: {} classes for data with {} (index 0, the background of detection and "
               "segmentation, counts); give at least as many, or name those wanted in data.only",
               by_layers ? "model.layers" : "model.num_classes", num_classes,
               dataset.num_classes());
  }
  return num_classes;
}

models::BatchShape micro_batch_shape(const Config& config, const InputSize& size, int channels) {
  return {config.train.micro_batch, channels, size.height, size.width, config.data.max_boxes};
}

const std::vector<InputSize>& evaluation_sizes(const Config& config) {
  return config.eval.size.empty() ? config.data.size : config.eval.size;
}

models::Plan make_plan(const models::Model& model, const models::BatchShape& shape,
                       const models::PlanOptions& options) {
  models::Graph graph;
  if (options.training) {
    model.training(graph, shape);
  } else {
    model.inference(graph, shape);
  }
  return models::plan(graph, options);
}

Network::Network(const Config& config, int num_classes, int channels, comm::StreamView stream,
                 int ranks, bool training)
    : config_(config),
      num_classes_(num_classes),
      channels_(channels),
      stream_(stream),
      ranks_(ranks),
      model_(configured_model(config, num_classes)) {
  models::PlanOptions options{stream.device().kind, ranks, training};
  const std::vector<InputSize>& eval_sizes = evaluation_sizes(config);
  for (const InputSize& size : training ? config.data.size : std::vector{eval_sizes[0]}) {
    models::Plan plan = make_plan(*model_, micro_batch_shape(config, size, channels), options);
    if (!storage_) {
      options.layout = plan.layout;
      counters_ = plan.graph->counters();
      storage_ = std::make_unique<models::ParameterStorage>(plan.layout, stream.device());
    }
    if (!training) break;
    training_.push_back(
        std::make_unique<models::Executable>(std::move(plan), *storage_, bind_options()));
  }
  inference_.resize(eval_sizes.size());
}

models::BindOptions Network::bind_options() const {
  return {stream_.device(), stream_, config_.runtime.conv == ConvChoice::kDirect};
}

void Network::bind_lock_step(std::int64_t num_slots) {
  REQUIRE(lock_step_.empty(), "bound twice");
  for (std::int64_t slot = 1; slot < num_slots; ++slot) {
    const comm::Buffer& gradients = gradients_.emplace_back(
        stream_.device(), storage_->gradients.size_bytes(), comm::Fill::kZero);
    models::BindOptions options = bind_options();
    options.gradients = &gradients;
    auto& executables = lock_step_.emplace_back();
    for (const auto& first : training_) {
      executables.push_back(
          std::make_unique<models::Executable>(first->plan(), *storage_, options));
    }
  }
}

models::Executable& Network::inference(std::size_t bucket) {
  auto& slot = inference_.at(bucket);
  if (!slot) {
    const models::BatchShape shape =
        micro_batch_shape(config_, evaluation_sizes(config_)[bucket], channels_);
    models::PlanOptions options{stream_.device().kind, ranks_, false};
    options.layout = storage_->layout;
    slot = std::make_unique<models::Executable>(make_plan(*model_, shape, options), *storage_,
                                                bind_options());
  }
  return *slot;
}

std::int64_t Network::num_parameters() const {
  std::int64_t count = 0;
  for (const auto& slot : storage_->layout->slots) {
    const auto kind = slot.parameter.kind;
    if (kind != models::ParameterKind::kStatistic && kind != models::ParameterKind::kFixed) {
      count += slot.size;
    }
  }
  return count;
}

}  // namespace trainer
