#include "trainer/network.h"

#include "trainer/device.h"
#include "trainer/optim/sharded_optimizer.h"

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

// What a bound plan holds of its own: activations, inputs, and the copies of weights that the
// convolutions of a GPU read in bf16.
std::int64_t plan_bytes(const models::Plan& plan) {
  std::int64_t bytes = plan.arena_bytes;
  bool narrow = false;
  for (const models::PlanValue& value : plan.values) {
    narrow = narrow || value.spec.type == models::Type::kBF16;
    if (value.storage == models::Storage::kInput)
      bytes += value.spec.shape.count() * models::type_bytes(value.spec.type);
  }
  if (!narrow) return bytes;
  for (const models::Parameter& parameter : plan.graph->parameters()) {
    if (parameter.kind == models::ParameterKind::kWeight)
      bytes += parameter.shape.count() * models::type_bytes(models::Type::kBF16);
  }
  return bytes;
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

int common_tile(comm::Communicator& communicator) {
  std::int64_t tile = models::native_tile();
  communicator.all_reduce(std::span<std::int64_t>(&tile, 1), comm::Reduction::kMin);
  return static_cast<int>(tile);
}

Network::Network(const Config& config, int num_classes, int channels, comm::StreamView stream,
                 const NetworkOptions& network_options)
    : config_(config),
      num_classes_(num_classes),
      channels_(channels),
      stream_(stream),
      options_(network_options),
      model_(configured_model(config, num_classes)) {
  const bool training = options_.training;
  models::PlanOptions options = plan_options(training);
  const std::vector<InputSize>& eval_sizes = evaluation_sizes(config);
  std::vector<models::Plan> plans;
  for (const InputSize& size : training ? config.data.size : std::vector{eval_sizes[0]}) {
    plans.push_back(make_plan(*model_, micro_batch_shape(config, size, channels), options));
    options.layout = plans[0].layout;
  }
  const Memory memory = stream.on_cpu() ? Memory{} : memory_for(plans);
  require_memory(stream.device(), memory.at_once + memory.later);
  counters_ = plans[0].graph->counters();
  storage_ = std::make_unique<models::ParameterStorage>(plans[0].layout, stream.device());
  for (models::Plan& plan : plans) {
    if (!training) break;
    training_.push_back(
        std::make_unique<models::Executable>(std::move(plan), *storage_, bind_options()));
  }
  inference_.resize(eval_sizes.size());
  require_memory(stream.device(), memory.later);  // beside what the bound plans really took
}

// bf16 is what GPUs compute in unless told otherwise.
models::PlanOptions Network::plan_options(bool training) const {
  models::PlanOptions options{stream_.device().kind, options_.ranks, training};
  if (stream_.on_cpu()) options.tile = options_.tile;
  const bool wanted = config_.runtime.precision != Precision::kFp32;
  if (wanted && !stream_.on_cpu()) options.precision = models::Precision::kBf16;
  return options;
}

Network::Memory Network::memory_for(const std::vector<models::Plan>& plans) const {
  constexpr std::int64_t kElement = sizeof(float);
  const models::ParameterLayout& layout = *plans[0].layout;
  const std::int64_t gradients = layout.gradient_elements * kElement;
  Memory memory{layout.parameter_elements * kElement + gradients, 0};
  std::int64_t bound = 0;
  for (const models::Plan& plan : plans) bound += plan_bytes(plan);
  if (!plans[0].training) {
    memory.later = bound;
    return memory;
  }
  memory.at_once += bound;
  const bool averages = config_.ema.decay > 0;
  const auto num_states =
      static_cast<std::int64_t>(state_names(config_.optimizer).size()) + (averages ? 1 : 0);
  memory.later = num_states * gradients / options_.ranks;
  if (averages) memory.later += layout.parameter_elements * kElement;
  if (config_.model.norm == Norm::kSync) {  // bind_lock_step: slots of their own
    const std::int64_t total = config_.train.batch / config_.train.micro_batch;
    const std::int64_t slots = (total + options_.ranks - 1) / options_.ranks;
    memory.later += (slots - 1) * (gradients + bound);
  }
  if (config_.data.splits.contains("val")) {
    for (const InputSize& size : evaluation_sizes(config_))
      memory.later += plan_bytes(inference_plan(size, plans[0].layout));
  }
  return memory;
}

models::Plan Network::inference_plan(
    const InputSize& size, const std::shared_ptr<const models::ParameterLayout>& layout) const {
  models::PlanOptions options = plan_options(false);
  options.layout = layout;
  return make_plan(*model_, micro_batch_shape(config_, size, channels_), options);
}

models::BindOptions Network::bind_options() {
  models::BindOptions options{stream_.device(), stream_,
                              config_.runtime.conv == ConvChoice::kDirect};
  options.capture = config_.runtime.capture != Capture::kNone;
  options.engines = &engines_;
  return options;
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
    slot = std::make_unique<models::Executable>(
        inference_plan(evaluation_sizes(config_)[bucket], storage_->layout), *storage_,
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
