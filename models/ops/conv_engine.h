#pragma once

#include <memory>
#include <span>
#include <string>

#include "models/graph/op.h"

namespace models {

// The passes of a convolution y = x * weight (a cross-correlation, as in conv2d).
enum class ConvPass : std::uint8_t { kForward, kDataGradient, kFilterGradient };

// One pass over tensors of fixed extents, as a library of a GPU's vendor is asked for it. Products
// are added in fp32, to which an epilogue is applied before anything is rounded. All operands are
// of one type, the bias too: cuDNN has no compiled kernels for an fp32 bias, or an fp32 gradient of
// the filter, beside bf16 activations.
struct ConvRequest {
  ConvPass pass = ConvPass::kForward;
  Shape x, weight, y;  // (N, I, H, W), (O, I / groups, R, S), (N, O, H', W')
  int stride = 1, padding = 0, dilation = 1;
  Type type = Type::kF32;     // kF32 or kBF16
  bool channels_last = true;  // all tensors: NHWC and (O, R, S, I / groups); else as written above
  bool direct = false;        // neither Winograd nor Fourier transforms
  bool epilogue = false;      // kForward: y = x * weight + bias
  bool residual = false;      // with epilogue: + residual
  bool relu = false;          // with epilogue: then max(., 0)
};
std::string to_string(const ConvRequest& request);

// A forward pass writes y; the others read dy there and write dx into `x` or dweight into `weight`.
// Every pass overwrites what it writes.
struct ConvOperands {
  void *x = nullptr, *weight = nullptr, *y = nullptr;
  const void* bias = nullptr;      // (O)
  const void* residual = nullptr;  // as y
};

// What answers a request. The same operands give the same bits, on every GPU of one model.
class ConvEngine {
 public:
  virtual ~ConvEngine() = default;
  virtual std::int64_t workspace_bytes() const = 0;
  virtual std::string name() const = 0;  // as the library knows it
  // ASYNC. Operands and workspace are aligned to 16 bytes.
  virtual void run(const ConvOperands& operands, std::span<std::byte> workspace) = 0;
};

class ConvLibrary {
 public:
  virtual ~ConvLibrary() = default;
  // Chosen by a rule of the library, never by timing, which would decide bits. fp32 runs without
  // tensor cores, which would round the inputs to TF32; bf16 with them, since they add in fp32.
  // Null when it knows no engine for a request with an epilogue. Errors: kDevice when it knows none
  // for a bare pass.
  virtual std::unique_ptr<ConvEngine> find(const ConvRequest& request) = 0;
};

// The engine for a request; kernels of one executable share the library and equal engines.
// Null and errors as ConvLibrary::find.
std::shared_ptr<ConvEngine> conv_engine(const KernelContext& context, const ConvRequest& request);
// Key of the library in SharedState; what is there already is used.
inline constexpr const char* kConvLibrary = "convolutions";

// cuDNN on the stream of a context. Errors: kDevice when it does not start, or is not in this
// build.
std::shared_ptr<ConvLibrary> open_cudnn(const KernelContext& context);
// cuDNN's choices for a GPU that need not be here, described in JSON as cuDNN prints its
// CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION. Its engines do not run. Errors: as above.
std::shared_ptr<ConvLibrary> describe_cudnn(const std::string& gpu);

}  // namespace models
