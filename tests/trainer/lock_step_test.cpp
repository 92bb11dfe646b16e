#include "trainer/lock_step.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>

#include "comm/communicator_local.h"
#include "comm/random.h"
#include "models/ops/relu.h"
#include "models/ops/scale.h"
#include "models/ops/sync_norm.h"
#include "tests/trainer/damaged_dataset.h"
#include "trainer/training_run.h"

namespace trainer {
namespace {

using models::Graph;
using models::Shape;
using models::Value;

constexpr std::int64_t kImages = 2, kChannels = 20, kCells = 35;  // of a micro-batch, of an image

// loss = sum r y
class DotKernel final : public models::Kernel {
 public:
  void forward(const models::KernelArgs& args) override {
    double sum = 0;
    for (std::int64_t i = 0; i < args.inputs[0].shape.count(); ++i) {
      sum += double{args.inputs[0].f32()[i]} * args.inputs[1].f32()[i];
    }
    args.outputs[0].f32()[0] = static_cast<float>(sum);
  }
  void backward(const models::KernelArgs& args) override {
    for (std::int64_t i = 0; i < args.dinputs[0].shape.count(); ++i) {
      args.dinputs[0].f32()[i] = args.doutputs[0].f32()[0] * args.inputs[1].f32()[i];
    }
  }
};

class DotOp final : public models::Op {
 public:
  std::string name() const override { return "dot"; }
  std::vector<models::ValueSpec> infer(std::span<const models::ValueSpec>) const override {
    return {{models::Type::kF32, {1}}};
  }
  models::Saved saved() const override { return {{1}, {}}; }
  models::LayoutRule layout() const override { return models::LayoutRule::kPlain; }
  std::unique_ptr<models::Kernel> compile(const models::KernelContext&) const override {
    return std::make_unique<DotKernel>();
  }
};

// Two norms in a row, so that the second one's gradient passes through the first one's moments.
Graph graph_of(std::int64_t images, bool sync) {
  Graph graph;
  const Shape s = {images, kChannels, 5, 7}, c = {kChannels};
  Value v = graph.parameter({"x", s, models::ParameterKind::kWeight});
  v = models::scale(graph, v, 1.0f);  // a value of the network, in its layout
  for (const std::string name : {"first", "second"}) {
    const auto parameter = [&](const char* part, models::ParameterKind kind) {
      return graph.parameter({name + part, c, kind});
    };
    const models::BatchNormParameters parameters{
        parameter(".gamma", models::ParameterKind::kNorm),
        parameter(".beta", models::ParameterKind::kNorm),
        parameter(".mean", models::ParameterKind::kStatistic),
        parameter(".var", models::ParameterKind::kStatistic)};
    v = sync ? models::sync_batch_norm(graph, v, parameters, 1e-5f)
             : models::batch_norm(graph, v, parameters, 1e-5f);
    if (name == "first") v = models::relu(graph, v);
  }
  models::Parameter weights{"r", s, models::ParameterKind::kFixed};
  weights.trainable = false;
  graph.loss("dot", graph.add(std::make_shared<DotOp>(), {v, graph.parameter(weights)})[0], 1.0f);
  return graph;
}

// Deterministic values in [0.5, 1.5), keyed by name and index.
float value_of(const std::string& name, std::int64_t i) {
  const std::uint64_t stream = std::hash<std::string>{}(name);
  const auto r =
      comm::philox(7, comm::Purpose::kSynthetic, stream, 0, static_cast<std::uint32_t>(i));
  return 0.5f + comm::uniform(r.v[0]);
}

// One copy of the network, its parameters and, where they differ, its images.
struct Copy {
  Copy(std::int64_t images, std::int64_t first_image, bool sync) : stream(comm::Device{}, 1) {
    models::Plan p = models::plan(graph_of(images, sync), {});
    storage = std::make_unique<models::ParameterStorage>(p.layout, comm::Device{});
    executable = std::make_unique<models::Executable>(
        std::move(p), *storage, models::BindOptions{comm::Device{}, stream.view()});
    for (const auto& slot : storage->layout->slots) {
      const std::string& name = slot.parameter.name;
      const std::int64_t skipped =
          name == "x" || name == "r" ? first_image * kChannels * kCells : 0;
      float* to = storage->parameter(name).f32();
      for (std::int64_t i = 0; i < slot.size; ++i) to[i] = value_of(name, skipped + i);
    }
  }
  std::vector<float> gradient(const std::string& name) const {
    const models::Tensor tensor = storage->gradient(name);
    return {tensor.f32(), tensor.f32() + tensor.shape.count()};
  }
  comm::Stream stream;
  std::unique_ptr<models::ParameterStorage> storage;
  std::unique_ptr<models::Executable> executable;
};

// The gradients of all micro-batches, in their order, computed on some ranks.
using Gradients = std::vector<std::map<std::string, std::vector<float>>>;
Gradients in_lock_step(std::int64_t num_micro_batches, int num_ranks) {
  Gradients all(static_cast<std::size_t>(num_micro_batches));
  comm::run_local(num_ranks, [&](comm::Communicator& communicator) {
    const MicroBatches range =
        micro_batches_of(num_micro_batches, communicator.rank(), communicator.size());
    LockStep lock_step(communicator, num_micro_batches);
    std::vector<std::unique_ptr<Copy>> copies;
    for (std::int64_t m = range.begin; m < range.end; ++m) {
      copies.push_back(std::make_unique<Copy>(kImages, m * kImages, true));
    }
    models::StepObserver none;
    std::size_t done = 0;
    const auto run_until = [&](std::size_t end) {
      for (auto& copy : copies) copy->executable->run(none, 1, done, end);
      done = end;
    };
    const auto points = copies[0]->executable->sync_points();
    for (std::size_t p = 0; p < points.size(); ++p) {
      run_until(points[p].step);
      std::vector<models::SyncPoint> values;
      for (auto& copy : copies) values.push_back(copy->executable->sync_points()[p]);
      lock_step.merge(copies[0]->stream.view(), values);
    }
    run_until(copies[0]->executable->num_steps());
    for (std::int64_t m = range.begin; m < range.end; ++m) {
      const Copy& copy = *copies[static_cast<std::size_t>(m - range.begin)];
      for (const auto& slot : copy.storage->layout->slots) {
        if (slot.bucket < 0) continue;
        all[static_cast<std::size_t>(m)][slot.parameter.name] = copy.gradient(slot.parameter.name);
      }
    }
  });
  return all;
}

void expect_near(const std::vector<float>& a, const std::vector<float>& b, const std::string& what,
                 double tolerance = 1e-5) {
  ASSERT_EQ(a.size(), b.size());
  double scale = 1;
  for (float v : b) scale = std::max(scale, std::abs(double{v}));
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_NEAR(a[i], b[i], tolerance * scale) << what << "[" << i << "]";
  }
}

// Statistics and gradients of batch norm over one micro-batch that holds all images.
TEST(LockStep, IsTheWholeBatch) {
  constexpr std::int64_t kMicroBatches = 3;
  const Gradients parts = in_lock_step(kMicroBatches, 2);
  const Copy whole(kImages * kMicroBatches, 0, false);
  models::StepObserver none;
  whole.executable->run(none, 1);
  for (const char* name : {"first.mean", "first.var", "second.mean", "second.var"}) {
    for (const auto& part : parts) expect_near(part.at(name), whole.gradient(name), name);
  }
  std::vector<float> dx;
  for (const auto& part : parts) dx.insert(dx.end(), part.at("x").begin(), part.at("x").end());
  expect_near(dx, whole.gradient("x"), "x");
  for (const char* name : {"first.gamma", "first.beta", "second.gamma", "second.beta"}) {
    std::vector<float> sum(kChannels, 0.0f);
    for (const auto& part : parts) {
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part.at(name)[i];
    }
    // Batch norm adds 210 products of either sign in single precision.
    expect_near(sum, whole.gradient(name), name, 1e-4);
  }
}

TEST(LockStep, GivesTheSameBitsOnAnyNumberOfRanks) {
  for (std::int64_t num_micro_batches : {1, 2, 5}) {
    const Gradients one = in_lock_step(num_micro_batches, 1);
    for (int ranks = 2; ranks <= std::min<std::int64_t>(4, num_micro_batches); ++ranks) {
      EXPECT_EQ(in_lock_step(num_micro_batches, ranks), one) << ranks << " ranks";
    }
  }
}

TEST(LockStep, OneFailureIsEverybodys) {
  comm::run_local(3, [](comm::Communicator& communicator) {
    LockStep lock_step(communicator, 3);
    EXPECT_FALSE(lock_step.any_failed(false));
    EXPECT_TRUE(lock_step.any_failed(communicator.rank() == 1));
  });
}

// Only one rank meets the sample: the others, in the middle of a lock-step, are not left waiting.
TEST(LockStep, ARankThatCannotReadEndsTheRunOnAll) {
  std::string out = (std::filesystem::temp_directory_path() / "lock_step.XXXXXX").string();
  ASSERT_NE(::mkdtemp(out.data()), nullptr);
  const comm::StopSignals signals;
  std::atomic<int> num_agreed = 0;
  comm::run_local(2, [&](comm::Communicator& communicator) {
    comm::Progress progress;
    TrainingOptions options;
    options.out = std::filesystem::path(out) / "run";
    options.trial = true;
    options.open = [](const DataConfig& config, const OpenOptions& open) {
      return std::make_unique<testing::DamagedDataset>(open_dataset(config, open), 3);
    };
    const LoadedConfig config = parse_config(
        "model: {name: retinanet, backbone: resnet18, norm: sync}\n"
        "data: {format: shapes, train: {limit: 6}, val: {limit: 2}, size: [64, 64], "
        "max_boxes: 8}\n"
        "train: {batch: 3, micro_batch: 1, steps: 4}\n"
        "runtime: {threads: 1, loader_threads: 1}\n",
        "sync.yaml", {});
    try {
      TrainingRun(config, options, communicator, progress, signals).run();
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.code(), comm::ExitCode::kData) << error.what();
      ++num_agreed;
    }
  });
  EXPECT_EQ(num_agreed, 2);
  std::filesystem::remove_all(out);
}

}  // namespace
}  // namespace trainer
