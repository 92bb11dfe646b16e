// What cuDNN answers to the convolutions of the project's models, for a GPU that is described and
// not present: every pass has an engine that is deterministic and adds in fp32.
#include <gmock/gmock.h>

#include <chrono>

#include "comm/build.h"
#include "comm/gpu.h"
#include "models/ops/conv2d.h"
#include "models/ops/conv_engine.h"
#include "tests/models/ops/described_gpu.h"

namespace models::testing {
namespace {

struct Layer {
  std::int64_t batch, inputs, size, outputs;
  int window, stride, padding, dilation, groups;
};

ConvRequest request_of(const Layer& l, Type type = Type::kF32) {
  const Conv2dOp op({l.stride, l.padding, l.dilation, l.groups}, {});
  ConvRequest request;
  request.x = {l.batch, l.inputs, l.size, l.size};
  request.weight = {l.outputs, l.inputs / l.groups, l.window, l.window};
  const ValueSpec specs[] = {{Type::kF32, request.x}, {Type::kF32, request.weight}};
  request.y = op.infer(specs)[0].shape;
  request.stride = l.stride;
  request.padding = l.padding;
  request.dilation = l.dilation;
  request.type = type;
  return request;
}

class Cudnn : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!comm::kHasCuda) GTEST_SKIP() << "a build without cuDNN";
    library_ = describe_cudnn(kDescribedGpu);
  }
  // The engine's name, "none" where the library has none.
  std::string engine(const ConvRequest& request) const {
    const auto found = library_->find(request);
    if (!found) return "none";
    EXPECT_GE(found->workspace_bytes(), 0) << to_string(request);
    EXPECT_LE(found->workspace_bytes(), std::int64_t{1} << 30) << to_string(request);
    return found->name();
  }
  void expect_all_passes(ConvRequest request) const {
    for (ConvPass pass : {ConvPass::kForward, ConvPass::kDataGradient, ConvPass::kFilterGradient}) {
      request.pass = pass;
      EXPECT_THAT(engine(request), ::testing::StartsWith("eng")) << to_string(request);
      EXPECT_EQ(engine(request), engine(request)) << "two answers to one question";
    }
  }
  std::shared_ptr<ConvLibrary> library_;
};

// RetinaNet-R50 at 800x800, FCN-R50 at 520x520, ResNeXt's groups, VGG's and LeNet's layers.
const Layer kLayers[] = {
    {2, 3, 800, 64, 7, 2, 3, 1, 1},      {2, 64, 200, 256, 1, 1, 0, 1, 1},
    {2, 256, 200, 512, 1, 2, 0, 1, 1},   {2, 128, 200, 128, 3, 2, 1, 1, 1},
    {2, 256, 50, 256, 3, 1, 1, 1, 1},    {2, 2048, 25, 256, 1, 1, 0, 1, 1},
    {2, 256, 25, 256, 3, 2, 1, 1, 1},    {32, 256, 100, 256, 3, 1, 1, 1, 1},
    {2, 256, 100, 819, 3, 1, 1, 1, 1},   {2, 256, 7, 36, 3, 1, 1, 1, 1},
    {2, 512, 65, 512, 3, 1, 4, 4, 1},    {2, 2048, 65, 512, 3, 1, 1, 1, 1},
    {2, 512, 65, 21, 1, 1, 0, 1, 1},     {2, 128, 100, 128, 3, 1, 1, 1, 32},
    {2, 1024, 50, 1024, 3, 2, 1, 1, 32}, {4, 512, 38, 512, 3, 1, 1, 1, 1},
    {64, 1, 28, 6, 5, 1, 2, 1, 1},       {1, 3, 33, 5, 3, 1, 1, 1, 1},
};

constexpr Type kTypes[] = {Type::kF32, Type::kBF16};

TEST_F(Cudnn, HasEveryPassOfEveryLayer) {
  for (const Layer& layer : kLayers) {
    for (Type type : kTypes) expect_all_passes(request_of(layer, type));
  }
}

// bf16 runs where it pays: in kernels that fp32 may not use.
TEST_F(Cudnn, Bf16HasOtherEngines) {
  const Layer layer = {2, 256, 50, 256, 3, 1, 1, 1, 1};
  EXPECT_NE(engine(request_of(layer, Type::kBF16)), engine(request_of(layer, Type::kF32)));
}

void expect_fused(const std::function<std::string(const ConvRequest&)>& engine,
                  ConvRequest request) {
  request.epilogue = true;
  for (bool residual : {false, true}) {
    for (bool relu : {false, true}) {
      request.residual = residual;
      request.relu = relu;
      EXPECT_THAT(engine(request), ::testing::StartsWith("eng")) << to_string(request);
    }
  }
}

TEST_F(Cudnn, FusesWhatAConvolutionAbsorbs) {
  for (const Layer& layer : kLayers) {
    for (Type type : kTypes) {
      expect_fused([&](const ConvRequest& r) { return engine(r); }, request_of(layer, type));
    }
  }
}

TEST_F(Cudnn, HasEnginesForPlainTensorsAndDirectOnes) {
  // FCN's transposed convolutions: 2, 8 and 32 times as large
  for (const Layer& layer :
       {Layer{2, 21, 34, 21, 4, 2, 1, 1, 1}, {2, 21, 9, 21, 16, 8, 4, 1, 1},
        {2, 21, 256, 21, 16, 8, 4, 1, 1}, {2, 21, 512, 21, 64, 32, 16, 1, 1}}) {
    ConvRequest request = request_of(layer);
    request.channels_last = false;
    for (Type type : kTypes) {
      request.type = type;
      expect_all_passes(request);
    }
  }
  ConvRequest request = request_of({2, 256, 50, 256, 3, 1, 1, 1, 1});
  request.direct = true;
  expect_all_passes(request);
}

TEST_F(Cudnn, HasMatrixProducts) {
  // images, inputs, outputs
  for (const Shape& s : {Shape{2, 25088, 4096}, Shape{64, 400, 120}, Shape{1, 3, 1}}) {
    ConvRequest request{
        ConvPass::kForward, {s[0], s[1], 1, 1}, {s[2], s[1], 1, 1}, {s[0], s[2], 1, 1}};
    request.direct = true;
    expect_all_passes(request);
    request.epilogue = true;
    EXPECT_THAT(engine(request), ::testing::StartsWith("eng")) << to_string(request);
  }
}

TEST_F(Cudnn, EnginesForADescribedGpuDoNotRun) {
  const auto engine = library_->find(request_of({1, 3, 8, 4, 3, 1, 1, 1, 1}));
  EXPECT_THROW(engine->run({}, {}), comm::Error);
}

void expect_device_error(const std::function<void()>& call, const std::string& text) {
  try {
    call();
    FAIL() << "no error";
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kDevice);
    EXPECT_THAT(e.what(), ::testing::HasSubstr(text));
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
  }
}

TEST_F(Cudnn, NamesWhatItCannotDo) {
  ConvRequest request = request_of({1, 3, 8, 4, 3, 1, 1, 1, 1});
  request.y[2] = 5;  // not what x and the window give
  expect_device_error([&] { library_->find(request); }, "1x3x8x8 * 4x3x3x3");
  request.epilogue = true;
  EXPECT_EQ(library_->find(request), nullptr);
}

TEST_F(Cudnn, RefusesADescriptionOfNothing) {
  expect_device_error([] { describe_cudnn("{}"); }, "description of a GPU");
}

// Engines that compile kernels when they are found take tenths of a second each; no model needs one
// (HasEveryPassOfEveryLayer, FusesWhatAConvolutionAbsorbs: for a described GPU cuDNN has no other
// engines than those whose kernels it brings along).
TEST(CudnnOnAGpu, FindsEnginesWithoutCompilingKernels) {
  if (!comm::kHasCuda || comm::survey_gpus().gpus.empty()) GTEST_SKIP() << "no GPU";
  SharedState shared;
  comm::Stream stream(comm::Device{comm::DeviceKind::kCuda, 0});
  KernelContext context{stream.view().device(), stream.view()};
  context.shared = context.engines = &shared;
  const auto library = open_cudnn(context);
  library->find(request_of(kLayers[0]));  // cuDNN loads its libraries
  const auto begin = std::chrono::steady_clock::now();
  int count = 0;
  for (const Layer& layer : kLayers) {
    ConvRequest request = request_of(layer, Type::kBF16);
    for (ConvPass pass :
         {ConvPass::kDataGradient, ConvPass::kFilterGradient, ConvPass::kForward}) {
      request.pass = pass;
      count += library->find(request) != nullptr;
    }
    request.epilogue = request.relu = true;
    count += library->find(request) != nullptr;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(count, 4 * std::ssize(kLayers));
  EXPECT_LT(seconds.count(), 0.1 * count);
}

// On a machine without a GPU, and in a build without cuDNN, the error says what to do.
TEST(CudnnAbsent, IsAnErrorOfTheDevice) {
  SharedState shared;
  comm::Stream stream(comm::Device{}, 1);
  KernelContext context{{}, stream.view()};
  context.shared = context.engines = &shared;
  try {
    open_cudnn(context);
    GTEST_SKIP() << "a GPU is present";
  } catch (const comm::Error&) {
  }
  expect_device_error([&] { open_cudnn(context); },
                      comm::kHasCuda ? "run `ridgeline doctor`" : "set runtime.device=cpu");
}

}  // namespace
}  // namespace models::testing
