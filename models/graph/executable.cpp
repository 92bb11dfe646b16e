#include "models/graph/executable.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "comm/bf16.h"
#include "comm/range.h"

namespace models {
namespace {

constexpr std::int64_t kAlignment = 64;

// Channels in a block of the device's blocked order.
int channel_block(comm::Device device, std::int64_t channels) {
  if (device.kind == comm::DeviceKind::kCuda) return static_cast<int>(channels);  // NHWC
  return comm::cpu_info().isa.starts_with("avx512") ? 16 : 8;
}

comm::Buffer make_buffer(comm::Device device, std::int64_t bytes) {
  return comm::Buffer(device, static_cast<std::size_t>(bytes), comm::Fill::kZero);
}

template <typename T>
bool all_finite(const std::byte* data, std::int64_t count) {
  const T* const x = reinterpret_cast<const T*>(data);
  return std::all_of(x, x + count, [](T value) { return std::isfinite(float{value}); });
}

// True of types that hold nothing else.
bool all_finite(comm::StreamView stream, const Tensor& tensor) {
  if (tensor.type != Type::kF32 && tensor.type != Type::kBF16) return true;
  const comm::Buffer host({}, static_cast<std::size_t>(tensor.physical_bytes()));
  comm::copy_bytes(stream, host.bytes(), {tensor.data, host.size_bytes()});
  stream.synchronize();
  const std::byte* const data = host.bytes().data();
  return tensor.type == Type::kF32 ? all_finite<float>(data, tensor.physical_count())
                                   : all_finite<comm::Bf16>(data, tensor.physical_count());
}

// Of what a run waits for before it reads the value; -1: nothing.
int bucket_of(const Plan& plan, Value value) {
  const PlanValue& v = plan.values[value.id];
  if (!plan.training || v.storage != Storage::kParameter) return -1;
  return plan.layout->slot(plan.graph->parameters()[v.parameter].name).bucket;
}

}  // namespace

ParameterStorage::ParameterStorage(std::shared_ptr<const ParameterLayout> parameter_layout,
                                   comm::Device device)
    : layout(std::move(parameter_layout)),
      parameters(make_buffer(device, layout->parameter_elements * 4)),
      gradients(make_buffer(device, layout->gradient_elements * 4)) {}

Tensor ParameterStorage::parameter(const std::string& name) const {
  const ParameterSlot& slot = layout->slot(name);
  return {parameters.bytes().data() + slot.offset * 4, Type::kF32, slot.parameter.shape, 1,
          slot.tile};
}

Tensor ParameterStorage::gradient(const std::string& name) const {
  const ParameterSlot& slot = layout->slot(name);
  REQUIRE(slot.bucket >= 0, "{} has no gradient", name);
  return {gradients.bytes().data() + slot.offset * 4, Type::kF32, slot.parameter.shape, 1,
          slot.tile};
}

// A step with every view it needs: running it looks nothing up.
struct Executable::BoundStep {
  const PlanStep* step;
  Kernel* kernel = nullptr;
  std::string name;
  std::vector<Tensor> inputs, outputs, doutputs, dinputs;
  KernelArgs args;
};

Executable::Executable(Plan plan, ParameterStorage& storage, const BindOptions& options)
    : plan_(std::move(plan)),
      stream_(options.stream),
      graphs_(stream_, options.capture && !stream_.on_cpu()) {
  allocate(options, storage);
  compile(options);
  bind_steps();
}

Executable::~Executable() = default;

void Executable::allocate(const BindOptions& options, ParameterStorage& storage) {
  const auto& parameters = plan_.graph->parameters();
  tensors_.resize(plan_.values.size());
  std::vector<Interval> intervals;
  std::vector<int> owners;
  std::int64_t input_bytes = 0, seed_bytes = 0;
  for (std::size_t v = 0; v < plan_.values.size(); ++v) {
    const PlanValue& value = plan_.values[v];
    Tensor& tensor = tensors_[v];
    tensor = {nullptr, value.spec.type, value.spec.shape,
              value.layout == Layout::kBlocked ? channel_block(options.device, value.spec.shape[1])
                                               : 1};
    if (value.storage == Storage::kArena && value.first >= 0) {
      intervals.push_back({tensor.physical_bytes(), value.first, value.last});
      owners.push_back(static_cast<int>(v));
    }
    const std::int64_t bytes = (tensor.physical_bytes() + kAlignment - 1) / kAlignment * kAlignment;
    if (value.storage == Storage::kInput) input_bytes += bytes;
    if (value.storage == Storage::kSeed) seed_bytes += bytes;
  }
  arena_bytes_ = place_intervals(intervals);
  arena_ = make_buffer(options.device, arena_bytes_);
  inputs_ = make_buffer(options.device, input_bytes);
  seeds_ = make_buffer(options.device, seed_bytes);
  for (std::size_t i = 0; i < owners.size(); ++i) {
    tensors_[owners[i]].data = arena_.bytes().data() + intervals[i].offset;
  }
  std::byte* input = inputs_.bytes().data();
  std::byte* seed = seeds_.bytes().data();
  for (std::size_t v = 0; v < plan_.values.size(); ++v) {
    const PlanValue& value = plan_.values[v];
    Tensor& tensor = tensors_[v];
    const std::int64_t bytes = (tensor.physical_bytes() + kAlignment - 1) / kAlignment * kAlignment;
    if (value.storage == Storage::kInput) {
      tensor.data = input;
      input += bytes;
    } else if (value.storage == Storage::kSeed) {
      tensor.data = seed;
      seed += bytes;
      comm::copy_bytes(options.stream, {tensor.data, sizeof(float)},
                       std::as_bytes(std::span<const float>(&value.seed, 1)));
    } else if (value.storage == Storage::kParameter) {
      tensor = storage.parameter(parameters[value.parameter].name);
    } else if (value.storage == Storage::kGradient) {
      tensor = storage.gradient(parameters[value.parameter].name);
      if (options.gradients) {
        tensor.data = options.gradients->bytes().data() +
                      (tensor.data - storage.gradients.bytes().data());
      }
    }
  }
  options.stream.synchronize();
}

void Executable::compile(const BindOptions& options) {
  const Graph& graph = *plan_.graph;
  std::vector<std::vector<bool>> wants(graph.nodes().size());
  for (const PlanStep& step : plan_.steps) {
    if (step.kind != StepKind::kBackward) continue;
    for (GradientMode mode : step.modes) wants[step.node].push_back(mode != GradientMode::kNone);
  }
  for (std::size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    KernelContext context{options.device, options.stream, options.direct_convolution,
                          {}, {}, wants[n], plan_.training, &shared_,
                          options.engines != nullptr ? options.engines : &shared_};
    context.wants_gradient.resize(node.inputs.size(), false);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const Tensor& input = context.inputs.emplace_back(tensors_[node.inputs[i].id]);
      REQUIRE(input.tile == 1 || node.op->reads_tiles(static_cast<int>(i)), "{} of {} in tiles",
              node.op->name(), node.scope);
    }
    for (Value output : node.outputs) context.outputs.push_back(tensors_[output.id]);
    for (Value input : node.inputs) context.buckets.push_back(bucket_of(plan_, input));
    kernels_.push_back(node.op->compile(context));
  }
  for (const auto& kernel : kernels_) {
    workspace_bytes_ = std::max(workspace_bytes_, kernel->workspace_bytes());
  }
  workspace_ = make_buffer(options.device, workspace_bytes_);
}

void Executable::bind_steps() {
  const auto views = [&](const std::vector<int>& ids, const std::vector<Value>* all) {
    std::vector<Tensor> result;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] >= 0) {
        result.push_back(tensors_[ids[i]]);
      } else {  // shape without data: reading what was not saved fails at once
        result.push_back(all ? tensors_[(*all)[i].id] : Tensor{});
        result.back().data = nullptr;
      }
    }
    return result;
  };
  steps_.reserve(plan_.steps.size());
  for (const PlanStep& step : plan_.steps) {
    BoundStep& bound = steps_.emplace_back();
    bound.step = &step;
    if (step.node < 0) continue;
    const Node& node = plan_.graph->nodes()[step.node];
    bound.kernel = kernels_[step.node].get();
    bound.name = node.scope + ": " + node.op->name();
    bound.inputs = views(step.inputs, &node.inputs);
    bound.outputs = views(step.outputs, &node.outputs);
    bound.doutputs = views(step.doutputs, nullptr);
    bound.dinputs = views(step.dinputs, nullptr);
    bound.args = {bound.inputs, bound.outputs, bound.doutputs,    bound.dinputs,
                  step.modes,   workspace_.bytes(), 0};
  }
}

void Executable::run(StepObserver& observer, std::int64_t parameter_version, std::size_t begin,
                     std::size_t end) {
  if (begin == 0) graphs_.begin(parameter_version, observer.watches_steps());
  // What is recorded ends at a marker, and at a kernel that the host must wait for.
  const auto is_cut = [](const BoundStep& bound) {
    return bound.kernel == nullptr || bound.kernel->waits_for_device();
  };
  while (begin < end) {
    const auto first = steps_.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last =
        std::find_if(first, steps_.begin() + static_cast<std::ptrdiff_t>(end), is_cut);
    const auto cut = static_cast<std::size_t>(last - steps_.begin());
    graphs_.run(begin, cut, [&] { launch(observer, begin, cut); });
    if (cut < end) {
      const PlanStep& step = *steps_[cut].step;
      if (steps_[cut].kernel != nullptr) {
        launch(observer, cut, cut + 1);
      } else if (step.kind == StepKind::kBucketReady) {
        observer.bucket_ready(step.bucket);
      } else {
        observer.bucket_needed(step.bucket);
      }
    }
    begin = std::min(cut + 1, end);
  }
  if (end == num_steps()) graphs_.end();
}

// REQUIRES: no markers among the steps.
void Executable::launch(StepObserver& observer, std::size_t begin, std::size_t end) {
  for (std::size_t s = begin; s < end; ++s) {
    BoundStep& bound = steps_[s];
    bound.args.parameter_version = graphs_.kernel_version();
    const comm::ScopedRange range(bound.name.c_str());
    if (graphs_.plain()) observer.before(*bound.step, *bound.kernel);
    if (bound.step->kind == StepKind::kForward) {
      bound.kernel->forward(bound.args);
    } else {
      bound.kernel->backward(bound.args);
    }
    if (graphs_.plain()) observer.after(*bound.step, *bound.kernel);
  }
}

std::vector<SyncPoint> Executable::sync_points() const {
  std::vector<SyncPoint> points;
  for (std::size_t s = 0; s < plan_.steps.size(); ++s) {
    const PlanStep& step = plan_.steps[s];
    if (step.node < 0 || !plan_.graph->nodes()[step.node].op->synchronised()) continue;
    if (step.kind == StepKind::kForward) {
      points.push_back({s + 1, tensors_[step.outputs[0]], false});
    } else {
      points.push_back({s, tensors_[step.doutputs[0]], true});
    }
  }
  return points;
}

Tensor Executable::input(const std::string& name) const {
  for (std::size_t v = 0; v < plan_.graph->values().size(); ++v) {
    const auto& info = plan_.graph->values()[v];
    if (info.role == Graph::Role::kInput && info.name == name) return tensors_[v];
  }
  return {};
}

Tensor Executable::output(const std::string& name) const {
  for (const auto* list : {&plan_.graph->outputs(), &plan_.graph->losses()}) {
    for (const auto& named : *list) {
      if (named.name == name) return tensors_[named.value.id];
    }
  }
  REQUIRE(false, "no output {}", name);
}

void Executable::copy_losses(std::span<std::byte> to) const {
  for (const auto& loss : plan_.graph->losses()) {
    comm::copy_bytes(stream_, to.first(sizeof(float)),
                     {tensors_[loss.value.id].data, sizeof(float)});
    to = to.subspan(sizeof(float));
  }
}

std::vector<std::string> Executable::implementations() const {
  std::vector<std::string> lines;
  for (std::size_t n = 0; n < kernels_.size(); ++n) {
    const std::string name = kernels_[n]->implementation();
    if (!name.empty()) lines.push_back(plan_.graph->nodes()[n].scope + ": " + name);
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

std::string Executable::first_non_finite(const PlanStep& step) const {
  if (step.node < 0) return {};
  const Node& node = plan_.graph->nodes()[step.node];
  const auto& written = step.kind == StepKind::kForward ? step.outputs : step.dinputs;
  for (int id : written) {
    if (id < 0 || all_finite(stream_, tensors_[id])) continue;
    return node.scope + " (" + node.op->name() +
           (step.kind == StepKind::kForward ? ")" : ", backward)");
  }
  return {};
}

}  // namespace models
