// Convolutions of NVIDIA GPUs by cuDNN's graph API. An epilogue is asked for as conv, + residual,
// + bias, ReLU in this order, which is the one cuDNN has compiled kernels for in every precision.
#include <cuda_runtime.h>
#include <cudnn_frontend.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "models/ops/conv_engine.h"

namespace models {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Tensor_attributes;
using TensorPtr = std::shared_ptr<Tensor_attributes>;

// cuDNN would take gigabytes to bring large tensors into an order of its own.
constexpr std::int64_t kMaxWorkspaceBytes = std::int64_t{1} << 30;

// Numbers of operands; cuDNN takes their addresses in ascending order.
enum Operand : std::int64_t { kX = 1, kWeight, kResidual, kBias, kY };

std::string one_line(std::string text) {
  text = text.substr(0, text.find('\n'));
  for (char& c : text) c = static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  return text;
}

[[noreturn]] void fail(const std::string& what, const std::string& why) {
  comm::fail(comm::ExitCode::kDevice, "cuDNN {}: {}: {}; run `ridgeline doctor`", cudnnGetVersion(),
             what, one_line(why));
}

void require_good(fe::error_t error) {
  if (error.is_bad()) throw std::runtime_error(error.get_message());
}

// What went wrong in a call of the frontend, which also throws exceptions of its own; or empty.
template <typename Call>
std::string problem_of(Call call) {
  try {
    call();
  } catch (const std::exception& e) {
    return fmt::format("{} ", e.what());
  }
  return {};
}

// Owner of cuDNN's handle for one stream.
class Handle {
 public:
  explicit Handle(comm::StreamView stream) {
    const cudaError_t error = cudaSetDevice(stream.device().index);
    if (error != cudaSuccess) fail("cudaSetDevice", cudaGetErrorString(error));
    check("cudnnCreate", cudnnCreate(&handle_));
    check("cudnnSetStream", cudnnSetStream(handle_, static_cast<cudaStream_t>(stream.handle())));
  }
  ~Handle() {
    if (handle_) static_cast<void>(cudnnDestroy(handle_));
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cudnnHandle_t get() const { return handle_; }

 private:
  static void check(const char* what, cudnnStatus_t status) {
    if (status == CUDNN_STATUS_SUCCESS) return;
    std::array<char, 256> reason{};
    cudnnGetLastErrorString(reason.data(), reason.size());
    fail(what, fmt::format("{} {}", cudnnGetErrorString(status), reason.data()));
  }
  cudnnHandle_t handle_ = nullptr;
};

// Where plans are made for: a GPU that is here, or one that is described.
struct Target {
  std::shared_ptr<Handle> handle;
  std::shared_ptr<const fe::DeviceProperties> described;
};

std::vector<std::int64_t> extents(const Shape& s) { return {s[0], s[1], s[2], s[3]}; }
std::vector<std::int64_t> strides(const Shape& s, bool channels_last) {
  if (channels_last) return {s[1] * s[2] * s[3], 1, s[3] * s[1], s[1]};
  return {s[1] * s[2] * s[3], s[2] * s[3], s[3], 1};
}

// The graph of a request.
class Builder {
 public:
  Builder(fe::graph::Graph& graph, const ConvRequest& request) : graph_(graph), r_(request) {}

  // Its operands, ascending.
  std::vector<Operand> build() {
    constexpr auto f32 = fe::DataType_t::FLOAT;
    graph_.set_io_data_type(type()).set_intermediate_data_type(f32).set_compute_data_type(f32);
    switch (r_.pass) {
      case ConvPass::kForward: return forward();
      case ConvPass::kDataGradient: {
        const TensorPtr dy = tensor(kY, r_.y), weight = tensor(kWeight, r_.weight);
        result(kX, r_.x, graph_.conv_dgrad(dy, weight, with<fe::graph::Conv_dgrad_attributes>()));
        return {kX, kWeight, kY};
      }
      case ConvPass::kFilterGradient: {
        const TensorPtr dy = tensor(kY, r_.y), x = tensor(kX, r_.x);
        result(kWeight, r_.weight,
               graph_.conv_wgrad(dy, x, with<fe::graph::Conv_wgrad_attributes>()));
        return {kX, kWeight, kY};
      }
    }
    return {};
  }

 private:
  fe::DataType_t type() const {
    return r_.type == Type::kBF16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::FLOAT;
  }
  std::vector<Operand> forward() {
    std::vector<Operand> operands = {kX, kWeight};
    const TensorPtr x = tensor(kX, r_.x), weight = tensor(kWeight, r_.weight);
    TensorPtr y = graph_.conv_fprop(x, weight, with<fe::graph::Conv_fprop_attributes>());
    if (r_.epilogue) {
      if (r_.residual) {
        operands.push_back(kResidual);
        y = add(y, tensor(kResidual, r_.y));
      }
      operands.push_back(kBias);
      y = add(y, tensor(kBias, {1, r_.y[1], 1, 1}));
      if (r_.relu) {
        y = graph_.pointwise(
            shaped(y), fe::graph::Pointwise_attributes().set_mode(fe::PointwiseMode_t::RELU_FWD));
      }
    }
    result(kY, r_.y, y);
    operands.push_back(kY);
    return operands;
  }

  TensorPtr tensor(Operand operand, const Shape& shape) {
    return graph_.tensor(Tensor_attributes()
                             .set_uid(operand)
                             .set_dim(extents(shape))
                             .set_stride(strides(shape, r_.channels_last))
                             .set_data_type(type()));
  }
  void result(Operand operand, const Shape& shape, const TensorPtr& tensor) {
    tensor->set_output(true)
        .set_uid(operand)
        .set_dim(extents(shape))
        .set_stride(strides(shape, r_.channels_last))
        .set_data_type(type());
  }
  TensorPtr shaped(const TensorPtr& tensor) const {
    tensor->set_dim(extents(r_.y)).set_stride(strides(r_.y, r_.channels_last));
    return tensor;
  }
  TensorPtr add(const TensorPtr& a, const TensorPtr& b) {
    return graph_.pointwise(shaped(a), b,
                            fe::graph::Pointwise_attributes().set_mode(fe::PointwiseMode_t::ADD));
  }
  template <typename Attributes>
  Attributes with() const {
    return Attributes()
        .set_padding({r_.padding, r_.padding})
        .set_stride({r_.stride, r_.stride})
        .set_dilation({r_.dilation, r_.dilation})
        .set_convolution_mode(fe::ConvolutionMode_t::CROSS_CORRELATION);
  }

  fe::graph::Graph& graph_;
  const ConvRequest& r_;
};

std::vector<fe::NumericalNote_t> unwanted(const ConvRequest& request) {
  using Note = fe::NumericalNote_t;
  std::vector<Note> notes = {Note::NONDETERMINISTIC, Note::DOWN_CONVERT_INPUTS,
                             Note::REDUCED_PRECISION_REDUCTION};
  if (request.type == Type::kF32) notes.push_back(Note::TENSOR_CORE);
  if (request.direct) {
    notes.insert(notes.end(), {Note::FFT, Note::WINOGRAD, Note::WINOGRAD_TILE_4x4,
                               Note::WINOGRAD_TILE_6x6, Note::WINOGRAD_TILE_13x13});
  }
  return notes;
}

class CudnnEngine final : public ConvEngine {
 public:
  explicit CudnnEngine(Target target) : target_(std::move(target)) {}

  // Heuristic mode A, then the engines that cuDNN falls back to; the first that can be built.
  // Engines that compile their kernels at run time, some tenths of a second for each request, come
  // last.
  void plan(const ConvRequest& request) {
    operands_ = Builder(graph_, request).build();
    require_good(graph_.validate());
    if (target_.described) graph_.set_device_properties(target_.described);
    require_good(graph_.build_operation_graph(target_.handle ? target_.handle->get() : nullptr));
    require_good(graph_.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}));
    graph_.deselect_numeric_notes(unwanted(request));
    graph_.deselect_workspace_greater_than(kMaxWorkspaceBytes);
    build_precompiled();
    require_good(graph_.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE));  // of what is built
    require_good(graph_.get_workspace_size(workspace_bytes_));
    require_good(graph_.get_plan_name(name_));
  }

  std::int64_t workspace_bytes() const override { return workspace_bytes_; }
  std::string name() const override { return name_; }

  void run(const ConvOperands& operands, std::span<std::byte> workspace) override {
    REQUIRE(target_.handle, "{} was chosen for a GPU that is not here", name_);
    REQUIRE(static_cast<std::int64_t>(workspace.size()) >= workspace_bytes_, "{} bytes, not {}",
            workspace.size(), workspace_bytes_);
    std::array<void*, 5> addresses;
    int count = 0;
    for (Operand operand : operands_) addresses[count++] = address(operands, operand);
    const std::string problem = problem_of([&] {
      require_good(
          graph_.execute(target_.handle->get(), addresses.data(), count, workspace.data()));
    });
    if (!problem.empty()) fail(name_, problem);
  }

 private:
  // The first engine whose kernels come with cuDNN, if there is one.
  void build_precompiled() {
    std::vector<fe::BehaviorNote_t> notes;
    for (std::int64_t i = 0; i < graph_.get_execution_plan_count(); ++i) {
      require_good(graph_.get_behavior_notes_for_plan_at_index(i, notes));
      const auto compiles = std::ranges::find(notes, fe::BehaviorNote_t::RUNTIME_COMPILATION);
      if (compiles == notes.end() && graph_.build_plan_at_index(i).is_good()) return;
    }
  }
  static void* address(const ConvOperands& operands, Operand operand) {
    switch (operand) {
      case kX: return operands.x;
      case kWeight: return operands.weight;
      case kResidual: return const_cast<void*>(operands.residual);
      case kBias: return const_cast<void*>(operands.bias);
      case kY: return operands.y;
    }
    return nullptr;
  }

  Target target_;
  fe::graph::Graph graph_;
  std::vector<Operand> operands_;
  std::int64_t workspace_bytes_ = 0;
  std::string name_;
};

class Cudnn final : public ConvLibrary {
 public:
  explicit Cudnn(Target target) : target_(std::move(target)) {}

  std::unique_ptr<ConvEngine> find(const ConvRequest& request) override {
    auto engine = std::make_unique<CudnnEngine>(target_);
    const std::string problem = problem_of([&] { engine->plan(request); });
    if (problem.empty()) return engine;
    if (request.epilogue) return nullptr;
    fail(to_string(request), problem);
  }

 private:
  Target target_;
};

}  // namespace

std::shared_ptr<ConvLibrary> open_cudnn(const KernelContext& context) {
  return std::make_shared<Cudnn>(Target{std::make_shared<Handle>(context.stream), nullptr});
}

std::shared_ptr<ConvLibrary> describe_cudnn(const std::string& gpu) {
  auto properties = std::make_shared<fe::DeviceProperties>();
  const std::string problem = problem_of([&] {
    require_good(properties->deserialize({gpu.begin(), gpu.end()}));
  });
  if (!problem.empty()) fail("description of a GPU", problem);
  return std::make_shared<Cudnn>(Target{nullptr, properties});
}

}  // namespace models
