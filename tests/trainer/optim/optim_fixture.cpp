#include "tests/trainer/optim/optim_fixture.h"

#include <gtest/gtest.h>

#include <cstring>
#include <mutex>

#include "comm/device_communicator.h"
#include "tests/goldens/formula.h"

namespace trainer::testing {
namespace {

using models::Parameter;
using models::ParameterKind;
using models::ParameterLayout;
using models::ParameterStorage;

constexpr int kNumGradients = 24;

// gradient_pool()[i][slot]: made once; steps and micro-batches walk through it.
const std::vector<std::vector<std::vector<float>>>& gradient_pool() {
  static const auto pool = [] {
    std::vector<std::vector<std::vector<float>>> made(kNumGradients);
    for (int i = 0; i < kNumGradients; ++i) {
      for (const Parameter& p : awkward_parameters()) {
        const auto count = static_cast<std::size_t>(p.shape.count());
        made[i].push_back(
            goldens::values(7, p.name + ":" + std::to_string(i), count, {0.05f, 0.5f}));
      }
    }
    return made;
  }();
  return pool;
}

std::span<float> values_of(const HostMirror& parameters, const models::ParameterSlot& slot) {
  return parameters.as<float>().subspan(static_cast<std::size_t>(slot.offset),
                                        static_cast<std::size_t>(slot.size));
}

void write_gradients(comm::StreamView stream, ParameterStorage& storage, int bucket,
                     std::size_t index) {
  const ParameterLayout& layout = *storage.layout;
  for (std::size_t s = 0; s < layout.slots.size(); ++s) {
    if (layout.slots[s].bucket != bucket) continue;
    const auto values = std::as_bytes(std::span(gradient_pool()[index][s]));
    const auto at = static_cast<std::size_t>(layout.slots[s].offset) * sizeof(float);
    comm::copy_bytes(stream, storage.gradients.bytes().subspan(at, values.size()), values);
  }
}

void fill(const ParameterLayout& layout, const HostMirror& parameters, const Snapshot* from) {
  std::ranges::fill(parameters.bytes(), std::byte{0});
  for (const models::ParameterSlot& slot : layout.slots) {
    const std::string& name = slot.parameter.name;
    const auto count = static_cast<std::size_t>(slot.size);
    std::ranges::copy(
        from ? from->parameters.at(name) : goldens::values(3, name, count, {0.0f, 1.0f}),
        values_of(parameters, slot).begin());
  }
}

void expect_padding_zero(const ParameterLayout& layout, std::span<const float> parameters) {
  std::vector<bool> used(parameters.size(), false);
  for (const models::ParameterSlot& slot : layout.slots) {
    std::fill_n(used.begin() + slot.offset, slot.size, true);
  }
  std::size_t num_changed = 0;
  for (std::size_t i = 0; i < used.size(); ++i) {
    num_changed += !used[i] && parameters[i] != 0.0f;
  }
  EXPECT_EQ(num_changed, 0u) << "padding";
}

void load(ShardedOptimizer& optimizer, const Snapshot& from) {
  optimizer.for_each_state([&](const std::string& state, const std::string& tensor,
                               std::int64_t begin, std::int64_t, std::span<float> piece) {
    const std::vector<float>& whole = from.states.at(state + "/" + tensor);
    std::copy_n(whole.begin() + begin, piece.size(), piece.begin());
  });
  optimizer.store_states();
}

// One rank of train(); what it holds at the end goes into `result`, guarded by `mutex`.
class Rank {
 public:
  Rank(comm::Communicator& communicator, const OptimizerSetup& setup, comm::Device device)
      : communicator_(communicator),
        stream_(device),
        bulk_(device.kind == comm::DeviceKind::kCpu
                  ? nullptr
                  : comm::device_communicator(communicator, stream_, {.share_gpu = true})),
        storage_(std::make_shared<const ParameterLayout>(make_parameter_layout(
                     awkward_parameters(), untrained_parameters(), communicator.size())),
                 device),
        parameters_(storage_.parameters),
        optimizer_(storage_, bulk_ ? *bulk_ : communicator, stream_, setup) {}

  void run(const Steps& steps, const Snapshot* from) {
    fill(*storage_.layout, parameters_, from);
    parameters_.store(stream_);
    from ? load(optimizer_, *from) : optimizer_.start_ema();
    for (std::int64_t s = steps.begin; s < steps.end; ++s) one_step(s, s + 1 == steps.end);
    optimizer_.finish();
    parameters_.fetch(stream_);
    stream_.view().synchronize();
    EXPECT_FALSE(non_finite(optimizer_, stream_));
    expect_padding_zero(*storage_.layout, parameters_.as<float>());
  }

  void collect(Snapshot& result, std::mutex& mutex) {
    const OptimizerReport report = optimizer_.report();
    Tensors averaged = gather_average();
    const std::lock_guard lock(mutex);
    Tensors parameters;
    for (const models::ParameterSlot& slot : storage_.layout->slots) {
      const auto values = values_of(parameters_, slot);
      parameters[slot.parameter.name].assign(values.begin(), values.end());
    }
    if (result.parameters.empty()) {
      result.parameters = std::move(parameters);
      result.averaged = std::move(averaged);
      result.report = report;
    } else {
      expect_same_bits(result.parameters, parameters, "ranks of one run");
      expect_same_bits(result.averaged, averaged, "averages of one run");
      EXPECT_EQ(result.report.grad_norm, report.grad_norm);
    }
    collect_states(result);
  }

 private:
  void one_step(std::int64_t step, bool last) {
    const auto num_buckets = static_cast<int>(storage_.layout->buckets.size());
    const std::int64_t m = optimizer_.num_micro_batches();
    const MicroBatches mine = micro_batches_of(m, communicator_.rank(), communicator_.size());
    const double factor = step < 3 ? 1.0 : 0.5;
    if (step % 2 == 1) {
      for (int k = num_buckets - 1; k >= 0; --k) optimizer_.bucket_needed(k);
    }
    optimizer_.begin_step({step, 0.01 * factor, factor, 1.0 - 0.1 * step, last});
    for (std::int64_t i = mine.begin; i < mine.end; ++i) {
      for (int k = 0; k < num_buckets; ++k) {
        write_gradients(stream_, storage_, k,
                        static_cast<std::size_t>((i + 5 * step) % kNumGradients));
        optimizer_.bucket_ready(k);
      }
      optimizer_.progress();
    }
    optimizer_.finish_updates();
    if (stream_.view().on_cpu()) {
      EXPECT_FALSE(non_finite(optimizer_, stream_));
    }
  }

  Tensors gather_average() {
    Tensors averaged;
    if (!optimizer_.has_ema()) return averaged;
    comm::Buffer whole(storage_.parameters.device(), storage_.parameters.size_bytes());
    const HostMirror host(whole);
    optimizer_.gather_ema(whole);
    host.fetch(stream_);
    stream_.view().synchronize();
    for (const models::ParameterSlot& slot : storage_.layout->slots) {
      const float* begin = host.as<float>().data() + slot.offset;
      averaged[slot.parameter.name].assign(begin, begin + slot.size);
    }
    return averaged;
  }

  // NaN marks what nobody has delivered.
  void collect_states(Snapshot& result) {
    optimizer_.for_each_state([&](const std::string& state, const std::string& tensor,
                                  std::int64_t begin, std::int64_t end, std::span<float> piece) {
      std::vector<float>& whole = result.states[state + "/" + tensor];
      whole.resize(static_cast<std::size_t>(storage_.layout->slot(tensor).size),
                   std::numeric_limits<float>::quiet_NaN());
      ASSERT_EQ(end - begin, std::ssize(piece));
      for (std::int64_t i = begin; i < end; ++i) {
        ASSERT_TRUE(std::isnan(whole[static_cast<std::size_t>(i)])) << tensor << " twice at " << i;
        whole[static_cast<std::size_t>(i)] = piece[static_cast<std::size_t>(i - begin)];
      }
    });
  }

  comm::Communicator& communicator_;
  comm::Stream stream_;
  std::unique_ptr<comm::Communicator> bulk_;
  ParameterStorage storage_;
  HostMirror parameters_;
  ShardedOptimizer optimizer_;
};

}  // namespace

Parameter parameter(const std::string& name, std::int64_t size, ParameterKind kind) {
  Parameter p;
  p.name = name;
  p.shape = {size};
  p.kind = kind;
  return p;
}

std::vector<Parameter> awkward_parameters() {
  return {parameter("head.weight", 5),
          parameter("head.bias", 1, ParameterKind::kBias),
          parameter("fpn.weight", 1023),
          parameter("body.conv1.weight", 300000),
          parameter("body.bn1.weight", 1024, ParameterKind::kNorm),
          parameter("body.conv2.weight", 1025),
          parameter("body.bn1.running_mean", 70, ParameterKind::kStatistic)};
}

std::vector<Parameter> untrained_parameters() {
  return {parameter("stem.weight", 300), parameter("up.weight", 16, ParameterKind::kFixed),
          parameter("stem.running_var", 3, ParameterKind::kStatistic)};
}

Snapshot train(const OptimizerSetup& setup, int num_ranks, Steps steps, const Snapshot* from,
               comm::Device device) {
  gradient_pool();
  Snapshot result;
  std::mutex mutex;
  comm::run_local(num_ranks, [&](comm::Communicator& communicator) {
    Rank rank(communicator, setup, device);
    rank.run(steps, from);
    rank.collect(result, mutex);
    communicator.barrier();
  });
  for (const auto& [name, values] : result.states) {
    EXPECT_TRUE(std::ranges::none_of(values, [](float v) { return std::isnan(v); })) << name;
  }
  for (const Parameter& p : untrained_parameters()) {
    const auto count = static_cast<std::size_t>(p.shape.count());
    EXPECT_EQ(result.parameters.at(p.name), goldens::values(3, p.name, count, {0.0f, 1.0f}));
  }
  return result;
}

void expect_same_bits(const Tensors& a, const Tensors& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (const auto& [name, values] : a) {
    const auto other = b.find(name);
    ASSERT_NE(other, b.end()) << what << ": " << name;
    ASSERT_EQ(values.size(), other->second.size()) << what << ": " << name;
    EXPECT_EQ(std::memcmp(values.data(), other->second.data(), values.size() * sizeof(float)), 0)
        << what << ": " << name;
  }
}

void expect_same_bits(const Snapshot& a, const Snapshot& b, const std::string& what) {
  expect_same_bits(a.parameters, b.parameters, what);
  expect_same_bits(a.states, b.states, what + ", state");
  expect_same_bits(a.averaged, b.averaged, what + ", average");
  EXPECT_EQ(a.report.grad_norm, b.report.grad_norm) << what;
  EXPECT_EQ(a.report.l2_penalty, b.report.l2_penalty) << what;
  ASSERT_EQ(a.report.groups.size(), b.report.groups.size()) << what;
  for (std::size_t g = 0; g < a.report.groups.size(); ++g) {
    const GroupReport &x = a.report.groups[g], &y = b.report.groups[g];
    EXPECT_EQ(x.group, y.group) << what;
    EXPECT_EQ(x.penalty, y.penalty) << what << ": " << x.group;
    EXPECT_EQ(x.weight_norm, y.weight_norm) << what << ": " << x.group;
    EXPECT_EQ(x.update_ratio, y.update_ratio) << what << ": " << x.group;
    EXPECT_EQ(x.sparsity, y.sparsity) << what << ": " << x.group;
  }
}

bool non_finite(const ShardedOptimizer& optimizer, comm::StreamView stream) {
  const auto verdict = comm::Buffer::for_transfer(stream.device(), sizeof(std::int32_t));
  optimizer.fetch_verdict(verdict);
  stream.synchronize();
  return verdict.as<std::int32_t>()[0] != 0;
}

SoloOptimizer::SoloOptimizer(const OptimizerSetup& setup, const std::vector<Parameter>& trained,
                             const std::vector<Parameter>& untrained)
    : communicator_(comm::single_communicator()),
      stream_(comm::Device{}),
      storage_(
          std::make_shared<const ParameterLayout>(make_parameter_layout(trained, untrained, 1)),
          comm::Device{}),
      optimizer_(storage_, *communicator_, stream_, setup) {}

namespace {

// Names that end in "bias" are biases.
std::vector<Parameter> parameters_of(const Tensors& weights) {
  std::vector<Parameter> parameters;
  for (const auto& [name, values] : weights) {
    parameters.push_back(
        parameter(name, std::ssize(values),
                  name.ends_with("bias") ? ParameterKind::kBias : ParameterKind::kWeight));
  }
  return parameters;
}

}  // namespace

SoloOptimizer::SoloOptimizer(const OptimizerSetup& setup, const Tensors& weights)
    : SoloOptimizer(setup, parameters_of(weights), {}) {
  for (const auto& [name, values] : weights) {
    std::ranges::copy(values, this->weights(name).begin());
  }
}

std::span<float> SoloOptimizer::weights(const std::string& name) {
  return values_of(HostMirror(storage_.parameters), storage_.layout->slot(name));
}

void SoloOptimizer::step(const Tensors& gradients, StepValues values) {
  std::ranges::fill(storage_.gradients.as<float>(), 0.0f);
  for (const auto& [name, gradient] : gradients) {
    std::ranges::copy(gradient, storage_.gradient(name).f32());
  }
  values.step = num_steps_++;
  optimizer_.begin_step(values);
  for (std::size_t k = 0; k < storage_.layout->buckets.size(); ++k) {
    optimizer_.bucket_ready(static_cast<int>(k));
  }
  optimizer_.finish_updates();
  optimizer_.finish();
}

OptimizerSetup sgd(double l2, DecayMode mode, double momentum) {
  OptimizerSetup setup;
  setup.rule.name = OptimizerName::kSgd;
  setup.rule.momentum = momentum;
  setup.regularization.l2 = l2;
  setup.regularization.mode = mode;
  setup.regularization.rules = std::vector<Rule>{};
  return setup;
}

}  // namespace trainer::testing
