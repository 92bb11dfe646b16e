#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/device.h"
#include "comm/stream.h"
#include "models/graph/value.h"

namespace models {

// What the backward pass does with the memory of a gradient: the first writer of a step overwrites,
// later ones accumulate, so that nothing is ever zeroed.
enum class GradientMode : std::uint8_t { kNone, kOverwrite, kAccumulate };

// Inputs and outputs (by position) whose contents `backward` reads; everything else may be reused.
struct Saved {
  std::vector<int> inputs;
  std::vector<int> outputs;
};

// Which physical order an op works in.
enum class LayoutRule : std::uint8_t {
  kPlain,    // reads and writes plain tensors only
  kBlocked,  // rank-4 activations blocked, except graph inputs, which it reads plain
  kImage,    // as kBlocked, but its first input comes as it is where it has few channels, and a
             // graph input that such ops alone read is blocked bf16 where the plan computes in it
  kFollow,   // all rank-4 inputs and outputs in the order of the first input
  kAny,      // reads either order through Tensor::channel_block; rank-4 outputs are plain
};

// What an op makes of rank-4 activations where the plan computes in bf16. Values of another rank,
// parameters and all gradients of parameters are fp32 in any plan; a gradient has the type of its
// value. Kernels read types from their tensors, compute in fp32 and round what they store once.
enum class PrecisionRule : std::uint8_t {
  kF32,     // reads and writes fp32 only
  kReads,   // reads either type through Tensor::type; outputs are fp32
  kFollow,  // all inputs and outputs have the type of the first input
  kBf16,    // works in bf16, except that graph inputs and kImage's come as they are
};

// Everything a kernel is called with. Tensors stay at the same address for the life of a kernel.
struct KernelArgs {
  std::span<const Tensor> inputs;
  std::span<const Tensor> outputs;
  // backward only, which writes dinputs in the order of the inputs: two may be one tensor.
  // `doutputs` may be overwritten: nobody reads them afterwards. A gradient that
  // does not exist (an output nobody differentiates) has null data.
  std::span<const Tensor> doutputs;
  std::span<const Tensor> dinputs;  // null data where modes[i] == kNone
  std::span<const GradientMode> modes;
  std::span<std::byte> workspace;
  std::int64_t parameter_version = 0;  // changes whenever parameters may have changed
};

// A compiled op: bound to device, shapes and physical layouts.
class Kernel {
 public:
  virtual ~Kernel() = default;
  // Asked when all kernels of an executable are compiled.
  virtual std::int64_t workspace_bytes() const { return 0; }
  virtual void forward(const KernelArgs& args) = 0;
  virtual void backward(const KernelArgs& args);  // default: REQUIRE fails
  // Floating-point operations of one call, for `bench`; 0 where they do not matter.
  virtual double forward_flops() const { return 0.0; }
  virtual double backward_flops() const { return 0.0; }
  // Name of the chosen implementation, for `bench` and the manifest.
  virtual std::string implementation() const { return {}; }
  // True where a call makes the host wait for the device, so that it cannot be recorded. Such a
  // kernel keeps nothing from call to call: the version that it is given may be an older one.
  virtual bool waits_for_device() const { return false; }
};

// State that kernels of one executable share, by key: library handles, weights in another physical
// order that several convolutions read. The engine stores it and knows nothing of it.
class SharedState {
 public:
  template <typename T, typename Make>
  std::shared_ptr<T> get(const std::string& key, Make make) {
    const auto found = entries_.find(key);
    if (found != entries_.end()) return std::static_pointer_cast<T>(found->second);
    const std::shared_ptr<T> made = make();  // null is an answer, too
    entries_.emplace(key, made);
    return made;
  }

 private:
  std::map<std::string, std::shared_ptr<void>> entries_;
};

// What `compile` may look at.
struct KernelContext {
  comm::Device device;
  comm::StreamView stream;
  bool direct_convolution = false;  // runtime.conv: direct
  std::vector<Tensor> inputs;       // parameters have their final address; others may be null
  std::vector<Tensor> outputs;
  std::vector<bool> wants_gradient;  // per input; all false in an inference plan
  bool training = false;
  SharedState* shared = nullptr;   // of the executable
  SharedState* engines = nullptr;  // of all executables of the stream
  // Per input: the bucket of a parameter that a run may read from its kBucketNeeded on, else -1.
  std::vector<int> buckets = {};
};

// Description of one operation: immutable, no device, no memory.
class Op {
 public:
  virtual ~Op() = default;

  virtual std::string name() const = 0;                  // "conv2d"
  virtual std::string attributes() const { return {}; }  // for the printed plan
  virtual std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const = 0;
  virtual Saved saved() const { return {}; }
  virtual bool differentiable(int /*input*/) const { return true; }
  // On a CPU this input, a parameter, and its gradient may lie in tiles (weight_tiles.h).
  virtual bool reads_tiles(int /*input*/) const { return false; }
  virtual LayoutRule layout() const { return LayoutRule::kFollow; }
  virtual PrecisionRule precision() const { return PrecisionRule::kF32; }
  // Output 0 holds moments, (3, C): count, mean and biased variance of each channel. Whoever runs
  // micro-batches in lock-step replaces it by the moments of all of them before it is read, and its
  // gradient by the sum of theirs (Executable::sync_points).
  virtual bool synchronised() const { return false; }
  // An op equal to this one followed by `consumer`, which alone reads output 0 of this one, as its
  // input `slot`, while no op reads the others; null where there is none. The result's inputs are
  // this op's, then the consumer's without `slot`; its outputs the consumer's, then the others.
  virtual std::shared_ptr<const Op> absorb(const Op& /*consumer*/, int /*slot*/) const {
    return nullptr;
  }
  virtual std::unique_ptr<Kernel> compile(const KernelContext& context) const = 0;
};

}  // namespace models
