#pragma once

#include <span>
#include <vector>

#include "comm/buffer.h"
#include "tests/models/ops/op_fixture.h"

// Calls one kernel directly: every physical order and gradient mode, with poisoned memory, so that
// an element that is not written, or an input that is read without being saved, is seen.
namespace models::testing {

// An input of an op under test. Rank-4 activations come in the order under test.
struct KernelInput {
  Shape shape;
  std::vector<float> values;           // plain order
  std::vector<std::int32_t> integers;  // instead of values
  bool parameter = false;              // in plain order, or with blocks of 16 in tiles of 16
};

// A channel block that stands for all channels of a tensor, however many it has.
inline constexpr int kAllChannels = 0;

// Physical orders that kernels of a device must accept: plain and its channel blocks.
std::vector<int> channel_blocks(const DeviceCase& device);

class KernelRun {
 public:
  // The op of the graph's last node. `type`: what the plan stores rank-4 activations as, where the
  // op's PrecisionRule lets it.
  KernelRun(const DeviceCase& device, const Graph& graph, std::vector<KernelInput> inputs,
            int channel_block, Type type = Type::kF32);

  void forward();
  // Gradients of the first output are `dy`, in plain order; dinputs start as `initial` in mode
  // kAccumulate and as NaN in mode kOverwrite. Values and parameters that the op did not ask to
  // save are absent. REQUIRES: forward().
  void backward(const std::vector<float>& dy, std::vector<GradientMode> modes,
                const std::vector<std::vector<float>>& initial = {});

  std::vector<float> output(int i = 0) const { return plain(outputs_[i]); }
  std::vector<std::int32_t> integers(int i) const;
  std::vector<float> gradient(int input) const { return plain(dinputs_[input]); }
  // Channels past the last are zero in output 0, and in the gradient of every rank-4 input.
  bool padding_is_zero() const;

 private:
  Tensor make(const ValueSpec& spec, int block, Type type = Type::kF32);
  Tensor make_like(const Tensor& like);
  void store(const Tensor& tensor, const std::vector<float>& values);
  void poison(const Tensor& tensor);
  void upload(const Tensor& tensor, const std::vector<float>& physical);
  std::vector<float> plain(const Tensor& tensor) const;
  bool padding_is_zero(const Tensor& tensor) const;
  std::vector<float> physical(const Tensor& tensor) const;
  KernelArgs args();

  comm::Device device_;
  comm::Stream stream_;
  std::shared_ptr<const Op> op_;
  SharedState shared_;
  std::vector<comm::Buffer> memory_;
  std::vector<Tensor> inputs_, outputs_, doutputs_, dinputs_;
  std::vector<GradientMode> modes_;
  std::unique_ptr<Kernel> kernel_;
  comm::Buffer workspace_;
};

}  // namespace models::testing
