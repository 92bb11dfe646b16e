// Runs of an executable that are recorded and replayed: what changes between them must get through.
#include "models/graph/executable.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "comm/parallel.h"

namespace models::testing {
namespace {

constexpr comm::Device kGpu{comm::DeviceKind::kCuda, 0};
constexpr std::int64_t kCount = 8;

struct Calls {
  int forward = 0, backward = 0;
};

struct Prepare {
  const float* w;
  float *prepared, *times;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    prepared[i] = 3 * w[i];
    if (i == 0) ++times[0];
  }
};
struct Multiply {
  const float *a, *b;
  float* y;
  RIDGELINE_HD void operator()(std::int64_t i) const { y[i] = a[i] * b[i]; }
};
struct TripleProduct {
  const float *x, *dy;
  float* dw;
  RIDGELINE_HD void operator()(std::int64_t i) const { dw[i] = 3 * x[i] * dy[i]; }
};
struct Sum {
  const float* x;
  float* y;
  RIDGELINE_HD void operator()(std::int64_t) const {
    y[0] = 0;
    for (std::int64_t i = 0; i < kCount; ++i) y[0] += x[i];
  }
};
struct Spread {
  const float* dy;
  float* dx;
  RIDGELINE_HD void operator()(std::int64_t i) const { dx[i] = dy[0]; }
};

// y = 3 w x with 3 w prepared once per version of the parameters, as convolutions do.
class PreparedKernel final : public Kernel {
 public:
  PreparedKernel(comm::StreamView stream, Calls& calls)
      : stream_(stream),
        calls_(calls),
        prepared_(kGpu, kCount * sizeof(float)),
        times_(kGpu, sizeof(float), comm::Fill::kZero) {}
  void forward(const KernelArgs& args) override {
    ++calls_.forward;
    const float* w = args.inputs[1].f32();
    comm::parallel_for(
        stream_, kCount,
        Multiply{args.inputs[0].f32(), prepared(args.parameter_version, w), args.outputs[0].f32()});
  }
  void backward(const KernelArgs& args) override {
    ++calls_.backward;
    comm::parallel_for(
        stream_, kCount,
        TripleProduct{args.inputs[0].f32(), args.doutputs[0].f32(), args.dinputs[1].f32()});
  }
  float times() const {
    float times = 0;
    comm::copy_bytes(stream_, std::as_writable_bytes(std::span(&times, 1)), times_.bytes());
    return times;
  }

 private:
  float* prepared(std::int64_t version, const float* w) {
    float* const to = prepared_.as<float>().data();
    if (version_ != version)
      comm::parallel_for(stream_, kCount, Prepare{w, to, times_.as<float>().data()});
    version_ = version;
    return to;
  }
  comm::StreamView stream_;
  Calls& calls_;
  comm::Buffer prepared_, times_;
  std::int64_t version_ = -1;
};

class PreparedOp final : public Op {
 public:
  explicit PreparedOp(Calls& calls) : calls_(calls) {}
  std::string name() const override { return "prepared"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    return {inputs[0]};
  }
  Saved saved() const override { return {{0}, {}}; }
  bool differentiable(int input) const override { return input == 1; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    auto kernel = std::make_unique<PreparedKernel>(context.stream, calls_);
    last = kernel.get();
    return kernel;
  }
  mutable PreparedKernel* last = nullptr;

 private:
  Calls& calls_;
};

class SumKernel final : public Kernel {
 public:
  explicit SumKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    comm::parallel_for(stream_, 1, Sum{args.inputs[0].f32(), args.outputs[0].f32()});
  }
  void backward(const KernelArgs& args) override {
    comm::parallel_for(stream_, kCount, Spread{args.doutputs[0].f32(), args.dinputs[0].f32()});
  }

 private:
  comm::StreamView stream_;
};

class SumOp final : public Op {
 public:
  std::string name() const override { return "sum"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec>) const override {
    return {{Type::kF32, {1}}};
  }
  LayoutRule layout() const override { return LayoutRule::kPlain; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return std::make_unique<SumKernel>(context.stream);
  }
};

struct Observer : StepObserver {
  bool watches_steps() const override { return watches; }
  void bucket_ready(int) override {
    log += "r";
    if (fails) comm::fail(comm::ExitCode::kPeerLost, "a peer");
  }
  void bucket_needed(int) override { log += "n"; }
  void after(const PlanStep& step, const Kernel&) override {
    log += ".";
    if (searched && found.empty()) found = searched->first_non_finite(step);
  }
  bool watches = false, fails = false;
  const Executable* searched = nullptr;
  std::string log, found;
};

// y = x + 1, on the host.
class HostKernel final : public Kernel {
 public:
  explicit HostKernel(comm::StreamView stream) : stream_(stream) {}
  bool waits_for_device() const override { return true; }
  void forward(const KernelArgs& args) override {
    std::array<float, kCount> values;
    const auto bytes = std::as_writable_bytes(std::span(values));
    comm::copy_bytes(stream_, bytes, {args.inputs[0].data, bytes.size()});
    for (float& value : values) value += 1;
    comm::copy_bytes(stream_, {args.outputs[0].data, bytes.size()}, bytes);
    stream_.synchronize();
  }

 private:
  comm::StreamView stream_;
};

class HostOp final : public Op {
 public:
  std::string name() const override { return "host"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    return {inputs[0]};
  }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return std::make_unique<HostKernel>(context.stream);
  }
};

// loss = 0.5 sum 3 w x, so dw = 1.5 x.
class Replay : public ::testing::Test {
 protected:
  void TearDown() override { stream_.view().synchronize(); }
  void bind(bool capture) {
    Graph graph;
    op_ = std::make_shared<PreparedOp>(calls_);
    const Value x = graph.input("x", {Type::kF32, {kCount}});
    const Value y = graph.add(op_, {x, graph.parameter({"w", {kCount}})})[0];
    graph.loss("loss", graph.add(std::make_shared<SumOp>(), {y})[0], 0.5f);
    Plan p = plan(graph, {.device = kGpu.kind, .training = true});
    storage_ = std::make_unique<ParameterStorage>(p.layout, kGpu);
    BindOptions options{kGpu, stream_.view()};
    options.capture = capture;
    executable_ = std::make_unique<Executable>(std::move(p), *storage_, options);
  }
  void write(const Tensor& to, float value) {
    const std::vector<float> values(kCount, value);
    comm::copy_bytes(stream_, {to.data, kCount * sizeof(float)}, std::as_bytes(std::span(values)));
  }
  float read(const Tensor& from) {
    float value = 0;
    comm::copy_bytes(stream_, std::as_writable_bytes(std::span(&value, 1)),
                     {from.data, sizeof(float)});
    return value;
  }
  // Writes x, and w where the version is another than before, runs and checks.
  void run(std::int64_t version, float x, std::vector<std::size_t> cuts = {}) {
    if (version != version_) write(storage_->parameter("w"), w_ = static_cast<float>(version) * 2);
    version_ = version;
    write(executable_->input("x"), x);
    cuts.push_back(executable_->num_steps());
    std::size_t begin = 0;
    for (const std::size_t end : cuts) {
      executable_->run(observer_, version, begin, end);
      begin = end;
    }
    EXPECT_EQ(read(executable_->output("loss")), kCount * 3 * w_ * x) << "version " << version;
    EXPECT_EQ(read(storage_->gradient("w")), 1.5f * x) << "version " << version;
  }

  comm::Stream stream_{kGpu};
  Calls calls_;
  std::shared_ptr<PreparedOp> op_;
  std::unique_ptr<ParameterStorage> storage_;
  std::unique_ptr<Executable> executable_;
  Observer observer_;
  std::int64_t version_ = 0;
  float w_ = 0;
};

TEST_F(Replay, SeesNewInputsAndParameters) {
  bind(true);
  float x = 0;
  for (const std::int64_t version : {1, 2, 3, 4, 5}) run(version, ++x);
  EXPECT_EQ(calls_.forward, 2);  // launched, recorded, then replayed
  EXPECT_EQ(calls_.backward, 2);
  EXPECT_EQ(op_->last->times(), 5);
}

TEST_F(Replay, PreparesWeightsOnceAVersion) {
  bind(true);
  float x = 0;
  for (const std::int64_t version : {1, 1, 1, 2, 2, 3, 3, 3, 4, 5, 5, 6}) run(version, ++x);
  EXPECT_EQ(calls_.forward, 3);  // first run; recorded without a change; recorded with one
  EXPECT_EQ(op_->last->times(), 6);
}

TEST_F(Replay, UnchangedRunsThatComeLatePrepareNothing) {
  bind(true);
  float x = 0;
  for (const std::int64_t version : {1, 2, 3, 4, 4, 5, 5}) run(version, ++x);
  EXPECT_EQ(calls_.forward, 3);
  EXPECT_EQ(op_->last->times(), 5);
}

TEST_F(Replay, ARunThatIsWatchedIsLaunchedStepByStep) {
  bind(true);
  for (const std::int64_t version : {1, 2, 3}) run(version, 1);
  EXPECT_EQ(observer_.log, "n....rnrnr");
  observer_.log.clear();
  observer_.watches = true;
  run(3, 2);
  run(4, 3);
  EXPECT_EQ(observer_.log, "n....rn....r");
  observer_.watches = false;
  run(4, 4);
  run(5, 5);
  run(5, 6);
  EXPECT_EQ(op_->last->times(), 5);
}

TEST_F(Replay, CaptureCanBeOff) {
  bind(false);
  for (const std::int64_t version : {1, 1, 2, 2}) run(version, 1);
  EXPECT_EQ(calls_.forward, 4);
  EXPECT_EQ(op_->last->times(), 2);
}

TEST_F(Replay, RangesOfStepsAreRecordedOneByOne) {
  bind(true);
  for (const std::int64_t version : {1, 2, 3, 3, 4, 4}) run(version, 2, {2, 3});
  EXPECT_EQ(calls_.forward, 3);
  EXPECT_EQ(op_->last->times(), 4);
}

TEST_F(Replay, ARunThatFailedIsPreparedAnew) {
  bind(true);
  run(1, 1);
  for (const std::int64_t version : {2, 3, 4}) {  // while recorded, replayed
    observer_.fails = true;
    EXPECT_THROW(run(version, 1), comm::Error);
    observer_.fails = false;
    run(version, 2);
    run(version, 3);
  }
}

// A watched run is recorded by whoever watches; repeating the record is a run to those that follow.
TEST_F(Replay, AWatchedRunCanBeRecordedAsAPartOfMore) {
  bind(true);
  run(1, 1);
  observer_.watches = true;
  EXPECT_TRUE(executable_->prepares(2));
  EXPECT_FALSE(executable_->prepares(1));
  const comm::WorkGraph graph(stream_, [&] { executable_->run(observer_, 2); });
  float x = 1;
  for (const std::int64_t version : {2, 3, 4}) {
    write(storage_->parameter("w"), static_cast<float>(version));
    write(executable_->input("x"), ++x);
    if (version > 2) executable_->repeated(version);
    graph.launch(stream_);
    EXPECT_EQ(read(executable_->output("loss")), kCount * 3 * static_cast<float>(version) * x);
    EXPECT_EQ(op_->last->times(), version);
  }
  EXPECT_EQ(calls_.forward, 2);
  EXPECT_FALSE(executable_->prepares(4));
  version_ = 4, w_ = 4;
  run(4, 9);
  EXPECT_EQ(op_->last->times(), 4);
  run(5, 9);
  EXPECT_EQ(op_->last->times(), 5);
}

TEST_F(Replay, InferenceIsRecordedUpToKernelsThatWait) {
  Graph graph;
  op_ = std::make_shared<PreparedOp>(calls_);
  const ValueSpec spec{Type::kF32, {kCount}};
  const Value w = graph.parameter({"w", {kCount}});
  const Value y = graph.add(op_, {graph.input("x", spec), w})[0];
  graph.output("y", graph.add(op_, {graph.add(std::make_shared<HostOp>(), {y})[0], w})[0]);
  Plan p = plan(graph, {.device = kGpu.kind, .training = false});
  storage_ = std::make_unique<ParameterStorage>(p.layout, kGpu);
  executable_ =
      std::make_unique<Executable>(std::move(p), *storage_, BindOptions{kGpu, stream_.view()});
  float x = 0;
  for (const std::int64_t version : {1, 1, 1, 2, 2, 3, 3}) {
    const auto factor = static_cast<float>(3 * version);
    write(storage_->parameter("w"), static_cast<float>(version));
    write(executable_->input("x"), ++x);
    executable_->run(observer_, version);
    EXPECT_EQ(read(executable_->output("y")), factor * (factor * x + 1)) << "version " << version;
  }
  EXPECT_EQ(calls_.forward, 2 * 3);  // launched, recorded without a change, recorded with one
}

TEST_F(Replay, FindsWhatIsNotFiniteOnTheDevice) {
  bind(true);
  run(1, 1);
  run(2, 1);
  write(executable_->input("x"), NAN);
  observer_.searched = executable_.get();
  observer_.watches = true;
  executable_->run(observer_, 2);
  EXPECT_NE(observer_.found.find("(prepared)"), std::string::npos) << observer_.found;
}

}  // namespace
}  // namespace models::testing
