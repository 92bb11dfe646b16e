#include <gtest/gtest.h>

#include "comm/buffer.h"
#include "models/graph/element.h"
#include "tests/models/ops/conv_engine_fixture.h"
#include "tests/models/ops/op_fixture.h"

namespace models::testing {
namespace {

constexpr comm::Device kGpu{comm::DeviceKind::kCuda, 0};

// Operands of a request, on the device or the host, with the same values.
struct Operands {
  Operands(comm::StreamView stream, const ConvRequest& r) : stream(stream) {
    v.x = fill("x", r.x.count(), r.type);
    v.weight = fill("weight", r.weight.count(), r.type);
    v.y = fill("y", r.y.count(), r.type);
    v.bias = fill("bias", r.y[1], r.type);
    v.residual = fill("residual", r.y.count(), r.type);
  }
  void* fill(const std::string& name, std::int64_t count, Type type) {
    const auto floats = values(name, count);
    with_element(type, [&](auto zero) {
      const std::vector<decltype(zero)> from(floats.begin(), floats.end());
      memory.emplace_back(stream.device(), from.size() * sizeof(zero));
      comm::copy_bytes(stream, memory.back().bytes(), std::as_bytes(std::span(from)));
    });
    types.push_back(type);
    return memory.back().bytes().data();
  }
  std::vector<float> read(std::size_t index) const {
    return with_element(types[index], [&](auto zero) {
      std::vector<decltype(zero)> to(memory[index].size_bytes() / sizeof(zero));
      comm::copy_bytes(stream, std::as_writable_bytes(std::span(to)), memory[index].bytes());
      return std::vector<float>(to.begin(), to.end());
    });
  }
  comm::StreamView stream;
  std::vector<comm::Buffer> memory;
  std::vector<Type> types;
  ConvOperands v;
};

void expect_as_reference(const ConvRequest& request) {
  const comm::Stream host(comm::Device{}), gpu(kGpu);
  Operands expected(host, request), got(gpu, request);
  const auto reference = reference_library(true)->find(request);
  comm::Buffer workspace({}, static_cast<std::size_t>(reference->workspace_bytes()));
  reference->run(expected.v, workspace.bytes());
  KernelContext context{kGpu, gpu.view()};
  const auto engine = open_cudnn(context)->find(request);
  const comm::Buffer own(kGpu, static_cast<std::size_t>(engine->workspace_bytes()));
  engine->run(got.v, own.bytes());
  // Sums in another order may round to the neighbouring bf16.
  const double tolerance = request.type == Type::kBF16 ? 8e-3 : 2e-5;
  for (std::size_t k = 0; k < 3; ++k) {
    const auto a = expected.read(k), b = got.read(k);
    for (std::size_t i = 0; i < a.size(); ++i)
      ASSERT_NEAR(a[i], b[i], tolerance * (1 + std::abs(a[i])))
          << to_string(request) << " operand " << k << " [" << i << "]";
  }
}

TEST(SoftwareGpuConvolutions, AreThoseOfTheReference) {
  for (const ConvPass pass :
       {ConvPass::kForward, ConvPass::kDataGradient, ConvPass::kFilterGradient})
    for (const bool channels_last : {true, false}) {
      const auto base = [&](Shape x, Shape weight, Shape y, int stride, int padding, int dilation) {
        ConvRequest request{pass, x, weight, y};
        request.stride = stride;
        request.padding = padding;
        request.dilation = dilation;
        request.channels_last = channels_last;
        return request;
      };
      expect_as_reference(base({2, 3, 7, 9}, {5, 3, 3, 3}, {2, 5, 4, 5}, 2, 1, 1));
      expect_as_reference(base({1, 6, 5, 6}, {4, 3, 3, 2}, {1, 4, 3, 7}, 1, 1, 2));  // two groups
      expect_as_reference(base({2, 4, 3, 3}, {4, 1, 1, 1}, {2, 4, 3, 3}, 1, 0, 1));  // one each
      expect_as_reference(base({3, 8, 1, 1}, {17, 8, 1, 1}, {3, 17, 1, 1}, 1, 0, 1));
    }
}

TEST(SoftwareGpuConvolutions, EpiloguesAddAndClip) {
  ConvRequest request{ConvPass::kForward, {2, 3, 4, 4}, {5, 3, 3, 3}, {2, 5, 4, 4}};
  request.padding = 1;
  request.epilogue = true;
  expect_as_reference(request);
  request.relu = true;
  expect_as_reference(request);
  request.residual = true;
  request.channels_last = false;
  expect_as_reference(request);
}

TEST(SoftwareGpuConvolutions, Bf16AddsInFp32) {
  ConvRequest request{ConvPass::kForward, {2, 3, 4, 4}, {5, 3, 3, 3}, {2, 5, 4, 4}};
  request.padding = 1;
  request.type = Type::kBF16;
  expect_as_reference(request);
  request.epilogue = request.residual = true;
  expect_as_reference(request);
  request.epilogue = request.residual = false;
  request.pass = ConvPass::kDataGradient;
  expect_as_reference(request);
  request.pass = ConvPass::kFilterGradient;
  expect_as_reference(request);
}

}  // namespace
}  // namespace models::testing
