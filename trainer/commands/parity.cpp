#include "trainer/commands/parity.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "comm/bf16.h"
#include "comm/threads.h"
#include "trainer/agree.h"
#include "trainer/commands/data_facts.h"
#include "trainer/commands/parity_values.h"
#include "trainer/commands/synthetic_batch.h"
#include "trainer/config/read.h"
#include "trainer/device.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

using models::PlanStep;
using models::StepKind;
using models::Tensor;
using models::Type;

constexpr double kFp32 = 1e-4, kBf16 = 2e-2, kUpdate = 1e-5, kWhole = 1e-3;

// What the layout pass adds where a plan needs it only moves values.
bool computes(const models::Plan& plan, const PlanStep& step) {
  if (step.node < 0) return false;
  const std::string op = plan.graph->nodes()[static_cast<std::size_t>(step.node)].op->name();
  return op != "reorder" && op != "cast";
}

std::string name_of(const models::Plan& plan, const PlanStep& step) {
  const models::Node& node = plan.graph->nodes()[static_cast<std::size_t>(step.node)];
  return fmt::format("{} ({}{})", node.scope, node.op->name(),
                     step.kind == StepKind::kBackward ? ", backward" : "");
}

// The steps that compute, by index.
std::vector<std::size_t> computing_steps(const models::Plan& plan) {
  std::vector<std::size_t> steps;
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    if (computes(plan, plan.steps[s])) steps.push_back(s);
  }
  return steps;
}

// For each step of the GPU's plan that of the CPU's; -1: none. Passes insert copies, nothing else.
std::vector<std::ptrdiff_t> match_steps(const models::Plan& gpu, const models::Plan& cpu) {
  const std::vector<std::size_t> ours = computing_steps(gpu), theirs = computing_steps(cpu);
  REQUIRE(ours.size() == theirs.size(), "{} and {} steps", ours.size(), theirs.size());
  std::vector<std::ptrdiff_t> matches(gpu.steps.size(), -1);
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const std::string a = name_of(gpu, gpu.steps[ours[i]]), b = name_of(cpu, cpu.steps[theirs[i]]);
    REQUIRE(a == b, "{} and {}", a, b);
    matches[ours[i]] = static_cast<std::ptrdiff_t>(theirs[i]);
  }
  return matches;
}

// All that wrote a gradient, as one did wrong.
std::string writers_of(const models::Plan& plan, int gradient) {
  std::string names;
  for (const PlanStep& step : plan.steps) {
    if (std::ranges::find(step.dinputs, gradient) == step.dinputs.end()) continue;
    names += (names.empty() ? "" : ", ") + name_of(plan, step);
  }
  return names;
}

void round_filters(models::ParameterStorage& storage, comm::StreamView stream) {
  for (const models::ParameterSlot& slot : storage.layout->slots) {
    if (slot.parameter.shape.rank != 4) continue;
    const Tensor filter = storage.parameter(slot.parameter.name);
    std::vector<float> values = read_values(stream, filter);
    for (float& value : values) value = comm::Bf16(value);
    write_values(stream, filter, values);
  }
}

ShardedOptimizer make_optimizer(const Config& config, Network& network,
                                comm::Communicator& communicator) {
  return {network.storage(),
          communicator,
          network.stream(),
          {config.optimizer, config.regularization, config.clip, config.ema, 1, true}};
}

}  // namespace

// One device with all it computes with; answers the markers of its plan.
struct Parity::Side final : models::StepObserver {
  Side(const Config& config, comm::StreamView stream, comm::Communicator& communicator)
      : network(config, required_num_classes(config), num_channels(config.data.format), stream,
                {.tile = 1}),  // both devices' parameters in one order
        optimizer(make_optimizer(config, network, communicator)),
        executable(network.training(0)) {
    initialize(network.storage(), static_cast<std::uint64_t>(config.train.seed));
    fill_synthetic(executable, stream, network.num_classes());
  }
  void bucket_ready(int bucket) override { optimizer.bucket_ready(bucket); }
  void bucket_needed(int bucket) override { optimizer.bucket_needed(bucket); }

  // Goes on to the `end`-th step of the plan.
  void advance(std::size_t end) {
    if (end > done) executable.run(*this, version, done, end);
    done = std::max(done, end);
  }
  void finish() {
    optimizer.finish_updates();
    network.stream().synchronize();
    ++version;
    done = 0;
  }
  std::vector<float> read(const Tensor& tensor) const {
    return read_values(network.stream(), tensor);
  }
  void write(const Tensor& tensor, const std::vector<float>& values) const {
    write_values(network.stream(), tensor, values);
  }

  Network network;
  ShardedOptimizer optimizer;
  models::Executable& executable;
  std::int64_t version = 0;
  std::size_t done = 0;  // steps of this run
};

// Follows one run of the GPU with the CPU.
class Parity::Walk final : public models::StepObserver {
 public:
  struct Report {
    std::string when;
    ParityResult& result;
    std::function<void()> alive;
  };
  Walk(Side& cpu, Side& gpu, const Report& report)
      : cpu_(cpu),
        gpu_(gpu),
        report_(report),
        matches_(match_steps(gpu.executable.plan(), cpu.executable.plan())) {
    const auto& values = gpu.executable.plan().values;
    const bool narrow = std::ranges::any_of(
        values, [](const models::PlanValue& v) { return v.spec.type == Type::kBF16; });
    most_ = narrow ? kBf16 : kFp32;
    report.result.ops =
        static_cast<int>(std::ranges::count_if(matches_, [](auto m) { return m >= 0; }));
    cpu.write(cpu.executable.input("image"), gpu.read(gpu.executable.input("image")));
    if (!narrow) return;
    round_filters(cpu.network.storage(), cpu.network.stream());
    round_filters(gpu.network.storage(), gpu.network.stream());
  }

  bool watches_steps() const override { return true; }
  void bucket_ready(int bucket) override { gpu_.bucket_ready(bucket); }
  void bucket_needed(int bucket) override { gpu_.bucket_needed(bucket); }

  // Gradients that arrive are complete, on either side.
  void before(const PlanStep& step, const models::Kernel&) override {
    const std::ptrdiff_t match = match_of(step);
    if (match < 0 || step.kind != StepKind::kBackward) return;
    cpu_.advance(static_cast<std::size_t>(match));
    const PlanStep& other = cpu_step(match);
    for (std::size_t i = 0; i < step.doutputs.size(); ++i) {
      if (step.doutputs[i] < 0 || storage_of(step.doutputs[i]) == models::Storage::kSeed) continue;
      compare(step.doutputs[i], other.doutputs[i], [&] {
        return fmt::format("gradient that reaches {}, written by {}", name_of(plan(), step),
                           writers_of(plan(), step.doutputs[i]));
      });
    }
  }

  void after(const PlanStep& step, const models::Kernel&) override {
    report_.alive();
    const std::ptrdiff_t match = match_of(step);
    if (match < 0) return;
    cpu_.advance(static_cast<std::size_t>(match) + 1);
    const PlanStep& other = cpu_step(match);
    const std::string name = name_of(plan(), step);
    if (step.kind == StepKind::kForward) {
      for (std::size_t i = 0; i < step.outputs.size(); ++i)
        compare(step.outputs[i], other.outputs[i],
                [&] { return fmt::format("{}, output {}", name, i); });
      return;
    }
    for (std::size_t i = 0; i < step.dinputs.size(); ++i) {
      const int id = step.dinputs[i];
      if (id < 0 || storage_of(id) != models::Storage::kGradient) continue;
      compare(id, other.dinputs[i], [&] {
        const int p = plan().values[static_cast<std::size_t>(id)].parameter;
        return fmt::format("{}, gradient of {}", name,
                           plan().graph->parameters()[static_cast<std::size_t>(p)].name);
      });
    }
  }

 private:
  const models::Plan& plan() const { return gpu_.executable.plan(); }
  std::ptrdiff_t match_of(const PlanStep& step) const {
    return matches_[static_cast<std::size_t>(&step - plan().steps.data())];
  }
  const PlanStep& cpu_step(std::ptrdiff_t index) const {
    return cpu_.executable.plan().steps[static_cast<std::size_t>(index)];
  }
  models::Storage storage_of(int value) const {
    return plan().values[static_cast<std::size_t>(value)].storage;
  }

  template <typename Where>
  void compare(int gpu_value, int cpu_value, const Where& where) {
    const Tensor &ours = gpu_.executable.tensor(gpu_value),
                 &theirs = cpu_.executable.tensor(cpu_value);
    if (!ours || !theirs || ours.type == Type::kU8) return;
    const bool whole = ours.type == Type::kI32 || ours.type == Type::kI64;
    const std::vector<float> a = gpu_.read(ours), b = cpu_.read(theirs);
    Difference difference{whole ? share_of_others(a, b) : relative_distance(a, b),
                          whole ? kWhole : most_, report_.when + where()};
    const bool agree = difference.distance <= difference.most;
    agree ? cpu_.write(theirs, a) : gpu_.write(ours, b);
    if (!agree) {
      report_.result.differing.push_back(std::move(difference));
    } else if (difference.distance > report_.result.largest.distance) {
      report_.result.largest = std::move(difference);
    }
  }

  Side& cpu_;
  Side& gpu_;
  const Report report_;
  std::vector<std::ptrdiff_t> matches_;
  double most_ = kFp32;
};

std::string to_text(const Difference& difference) {
  return fmt::format("{}: {:.2g} of its norm, at most {:.2g}", difference.where,
                     difference.distance, difference.most);
}

std::string to_text(const ParityResult& result) {
  std::string text;
  for (const Difference& difference : result.differing) {
    text += "differs: " + to_text(difference) + "\n";
  }
  const std::string counts =
      fmt::format("parity: {} ops, {} gradients, {} step{}", result.ops, result.gradients,
                  result.steps, result.steps == 1 ? "" : "s");
  if (!result.differing.empty()) {
    return text + fmt::format("{}: {} values differ\n", counts, result.differing.size());
  }
  return fmt::format("{} agree; largest difference {:.2g} in {}\n", counts, result.largest.distance,
                     result.largest.where);
}

Parity::Parity(const Config& config, const Parts& parts)
    : lr_(config.optimizer.lr), progress_(parts.progress) {
  Config direct = config;
  direct.data.size.resize(1);
  direct.runtime.conv = ConvChoice::kDirect;  // Winograd rounds more than the GPU does
  gpu_ = std::make_unique<Side>(direct, parts.gpu, parts.communicator);
  cpu_ = std::make_unique<Side>(direct, parts.cpu, parts.communicator);
}

Parity::~Parity() = default;

Network& Parity::gpu() { return gpu_->network; }

ParityResult Parity::run(int steps) {
  ParityResult result;
  result.steps = steps;
  const auto& slots = gpu_->network.layout().slots;
  result.gradients = static_cast<int>(
      std::ranges::count_if(slots, [](const auto& slot) { return slot.bucket >= 0; }));
  for (int step = 0; step < steps; ++step) {
    const std::string when = fmt::format("step {}: ", step + 1);
    Walk walk(*cpu_, *gpu_, {when, result, [&] { progress_.publish(comm::Phase::kStep, step); }});
    for (Side* side : {cpu_.get(), gpu_.get()})
      side->optimizer.begin_step({.step = step, .lr = lr_});
    gpu_->executable.run(walk, gpu_->version);
    cpu_->advance(cpu_->executable.num_steps());
    gpu_->finish();
    cpu_->finish();
    compare_updates(when, result);
  }
  return result;
}

void Parity::compare_updates(const std::string& when, ParityResult& result) {
  for (const models::ParameterSlot& slot : gpu_->network.layout().slots) {
    const std::string& name = slot.parameter.name;
    const Tensor ours = gpu_->network.storage().parameter(name);
    const Tensor theirs = cpu_->network.storage().parameter(name);
    const std::vector<float> a = gpu_->read(ours);
    Difference difference{relative_distance(a, cpu_->read(theirs)), kUpdate,
                          fmt::format("{}update of {}", when, name)};
    cpu_->write(theirs, a);
    if (!(difference.distance <= difference.most)) {
      result.differing.push_back(std::move(difference));
    }
  }
}

ParityResult run_parity(const Config& given, int steps, comm::Communicator& communicator,
                        comm::Progress& progress) {
  if (communicator.size() > 1) {
    throw AgreedError(comm::ExitCode::kUsage,
                      "bench --parity compares the devices of one rank; "
                      "start it without mpirun");
  }
  Config config = given;
  config.runtime.device = DeviceChoice::kCuda;
  progress.allow(config.runtime.stall_seconds);
  const int threads =
      config.runtime.threads > 0 ? config.runtime.threads : comm::default_threads(communicator);
  const comm::Stream cpu(comm::Device{}, threads);
  const comm::Stream gpu(choose_device(config.runtime, communicator));
  return Parity(config, {cpu, gpu, communicator, progress}).run(steps);
}

}  // namespace trainer
