#include "tests/models/ops/kernel_fixture.h"

#include <limits>
#include <numeric>

#include "models/graph/element.h"
#include "models/graph/precision.h"
#include "models/graph/weight_tiles.h"

namespace models::testing {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

// Index of every plain element in physical order.
template <typename Use>
void for_each_element(const Tensor& t, Use use) {
  if (t.shape.rank != 4) {
    for (std::int64_t i = 0; i < t.shape.count(); ++i) use(i, i);
    return;
  }
  if (t.tile > 1) {
    std::vector<float> order(static_cast<std::size_t>(t.shape.count())), tiled(order.size());
    std::iota(order.begin(), order.end(), 0.0f);  // exact: there are few
    to_tiles(order, t.shape, t.tile, tiled);
    for (std::size_t at = 0; at < tiled.size(); ++at) use(static_cast<std::int64_t>(tiled[at]), at);
    return;
  }
  const std::int64_t block = t.channel_block, blocks = (t.shape[1] + block - 1) / block;
  const std::int64_t cells = t.shape[2] * t.shape[3];
  std::int64_t i = 0;
  for (std::int64_t n = 0; n < t.shape[0]; ++n)
    for (std::int64_t c = 0; c < t.shape[1]; ++c)
      for (std::int64_t k = 0; k < cells; ++k, ++i)
        use(i, ((n * blocks + c / block) * cells + k) * block + c % block);
}

}  // namespace

std::vector<int> channel_blocks(const DeviceCase& device) {
  if (device.kind == comm::DeviceKind::kCuda) return {1, kAllChannels};
  return comm::cpu_info().isa.starts_with("avx512") ? std::vector{1, 8, 16} : std::vector{1, 8};
}

KernelRun::KernelRun(const DeviceCase& device, const Graph& graph, std::vector<KernelInput> inputs,
                     int channel_block, Type type)
    : device_{device.kind, 0}, stream_(device_, 2), op_(graph.nodes().back().op) {
  std::vector<ValueSpec> specs;
  const TypeRule rule(type == Type::kBF16 ? Precision::kBf16 : Precision::kFp32, *op_, type);
  for (const KernelInput& input : inputs) {
    const bool integer = !input.integers.empty();
    specs.push_back({integer ? Type::kI32 : Type::kF32, input.shape});
    inputs_.push_back(input.parameter ? make(specs.back(), 1)
                                      : make(specs.back(), channel_block, rule.of_input(type)));
    if (input.parameter && channel_block == native_tile() &&
        device.kind == comm::DeviceKind::kCpu &&
        op_->reads_tiles(static_cast<int>(inputs_.size()) - 1) &&
        fits_tiles(input.shape, channel_block)) {
      inputs_.back().tile = channel_block;
    }
    if (integer) {
      comm::copy_bytes(stream_, {inputs_.back().data, input.integers.size() * 4},
                       std::as_bytes(std::span(input.integers)));
    } else {
      store(inputs_.back(), input.values);
    }
  }
  const bool plain = op_->layout() == LayoutRule::kPlain || op_->layout() == LayoutRule::kAny;
  for (const ValueSpec& spec : op_->infer(specs)) {
    outputs_.push_back(make(spec, plain ? 1 : channel_block, rule.of_outputs()));
  }
  KernelContext context{device_, stream_.view()};
  context.direct_convolution = true;
  context.inputs = inputs_;
  context.outputs = outputs_;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    context.wants_gradient.push_back(op_->differentiable(static_cast<int>(i)));
  }
  context.training = true;
  context.shared = context.engines = &shared_;
  kernel_ = op_->compile(context);
  workspace_ = comm::Buffer(device_, static_cast<std::size_t>(kernel_->workspace_bytes()));
}

KernelArgs KernelRun::args() {
  KernelArgs args{inputs_, outputs_, doutputs_, dinputs_, modes_, workspace_.bytes(), 1};
  return args;
}

void KernelRun::forward() {
  for (const Tensor& output : outputs_) poison(output);
  kernel_->forward(args());
  stream_.view().synchronize();
}

void KernelRun::backward(const std::vector<float>& dy, std::vector<GradientMode> modes,
                         const std::vector<std::vector<float>>& initial) {
  modes_ = std::move(modes);
  doutputs_.assign(outputs_.size(), {});
  doutputs_[0] = make_like(outputs_[0]);
  store(doutputs_[0], dy);
  dinputs_.clear();
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    dinputs_.emplace_back();
    if (modes_[i] == GradientMode::kNone) continue;
    dinputs_[i] = make_like(inputs_[i]);
    if (modes_[i] == GradientMode::kAccumulate) store(dinputs_[i], initial[i]);
    if (modes_[i] == GradientMode::kOverwrite) poison(dinputs_[i]);
  }
  const Saved saved = op_->saved();
  const auto keep = [](std::vector<Tensor> all, const std::vector<int>& kept) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (std::find(kept.begin(), kept.end(), static_cast<int>(i)) == kept.end()) {
        all[i].data = nullptr;
      }
    }
    return all;
  };
  const std::vector<Tensor> inputs = keep(inputs_, saved.inputs);
  const std::vector<Tensor> outputs = keep(outputs_, saved.outputs);
  KernelArgs call = args();
  call.inputs = inputs;
  call.outputs = outputs;
  kernel_->backward(call);
  stream_.view().synchronize();
}

Tensor KernelRun::make(const ValueSpec& spec, int block, Type type) {
  const bool activation = spec.shape.rank == 4 && spec.type == Type::kF32;
  const int lanes = block == kAllChannels ? static_cast<int>(spec.shape[1]) : block;
  return make_like({nullptr, activation ? type : spec.type, spec.shape, activation ? lanes : 1});
}

Tensor KernelRun::make_like(const Tensor& like) {
  Tensor tensor = like;
  memory_.emplace_back(device_, static_cast<std::size_t>(tensor.physical_bytes()),
                       comm::Fill::kZero);
  tensor.data = memory_.back().bytes().data();
  return tensor;
}

void KernelRun::store(const Tensor& tensor, const std::vector<float>& values) {
  REQUIRE(static_cast<std::int64_t>(values.size()) == tensor.shape.count(), "{} values for {}",
          values.size(), to_string(tensor.shape));
  std::vector<float> data(static_cast<std::size_t>(tensor.physical_count()), 0.0f);
  for_each_element(tensor, [&](std::int64_t i, std::int64_t at) { data[at] = values[i]; });
  upload(tensor, data);
}

void KernelRun::poison(const Tensor& tensor) {
  if (tensor.type != Type::kF32 && tensor.type != Type::kBF16) return;
  upload(tensor, std::vector<float>(static_cast<std::size_t>(tensor.physical_count()), kPoison));
}

void KernelRun::upload(const Tensor& tensor, const std::vector<float>& physical) {
  with_element(tensor.type, [&](auto zero) {
    const std::vector<decltype(zero)> data(physical.begin(), physical.end());
    const auto bytes = std::as_bytes(std::span(data));
    comm::copy_bytes(stream_, {tensor.data, bytes.size()}, bytes);
    stream_.view().synchronize();
  });
}

std::vector<float> KernelRun::physical(const Tensor& tensor) const {
  return with_element(tensor.type, [&](auto zero) {
    std::vector<decltype(zero)> data(static_cast<std::size_t>(tensor.physical_count()));
    const auto bytes = std::as_writable_bytes(std::span(data));
    comm::copy_bytes(stream_, bytes, {tensor.data, bytes.size()});
    stream_.view().synchronize();
    return std::vector<float>(data.begin(), data.end());
  });
}

std::vector<float> KernelRun::plain(const Tensor& tensor) const {
  const std::vector<float> data = physical(tensor);
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.count()));
  for_each_element(tensor, [&](std::int64_t i, std::int64_t at) { values[i] = data[at]; });
  return values;
}

std::vector<std::int32_t> KernelRun::integers(int i) const {
  std::vector<std::int32_t> values(static_cast<std::size_t>(outputs_[i].shape.count()));
  comm::copy_bytes(stream_, std::as_writable_bytes(std::span(values)),
                   {outputs_[i].data, values.size() * 4});
  stream_.view().synchronize();
  return values;
}

bool KernelRun::padding_is_zero() const {
  bool zero = padding_is_zero(outputs_[0]);
  for (const Tensor& gradient : dinputs_) zero &= !gradient.data || padding_is_zero(gradient);
  return zero;
}

bool KernelRun::padding_is_zero(const Tensor& tensor) const {
  const bool activation = tensor.type == Type::kF32 || tensor.type == Type::kBF16;
  if (tensor.shape.rank != 4 || !activation) return true;
  std::vector<float> data = physical(tensor);
  for_each_element(tensor, [&](std::int64_t, std::int64_t at) { data[at] = 0.0f; });
  return std::all_of(data.begin(), data.end(), [](float x) { return x == 0.0f; });
}

}  // namespace models::testing
