#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/gpu.h"
#include "comm/random.h"
#include "models/graph/executable.h"
#include "models/graph/reorder.h"
#include "models/graph/weight_tiles.h"

// Runs one small graph on every device a test is instantiated for, and checks backward passes by
// central differences.
namespace models::testing {

struct DeviceCase {
  comm::DeviceKind kind = comm::DeviceKind::kCpu;
  const char* name = "cpu_f32";
  double tolerance = 2e-3;  // of a numeric gradient, relative to its scale
  Precision precision = Precision::kFp32;
};
// The CPU, and a GPU where this program and this machine have one.
inline std::vector<DeviceCase> devices() {
  std::vector<DeviceCase> cases = {{comm::DeviceKind::kCpu, "cpu_f32", 2e-3}};
  if (comm::gpu_libraries().runtime != 0 && !comm::survey_gpus().gpus.empty()) {
    cases.push_back({comm::DeviceKind::kCuda, "cuda_f32", 2e-3});
  }
  return cases;
}
inline std::string device_name(const ::testing::TestParamInfo<DeviceCase>& info) {
  return info.param.name;
}

// Deterministic values in [low, high), keyed by name.
inline std::vector<float> values(const std::string& name, std::int64_t count, float low = -1.0f,
                                 float high = 1.0f) {
  std::vector<float> v(static_cast<std::size_t>(count));
  std::uint64_t stream = 1469598103934665603ull;
  for (char c : name) stream = (stream ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto r =
        comm::philox(7, comm::Purpose::kSynthetic, stream, 0, static_cast<std::uint32_t>(i / 4));
    v[static_cast<std::size_t>(i)] = low + (high - low) * comm::uniform(r.v[i % 4]);
  }
  return v;
}

// Adds the loss sum(r * y) with fixed random r: every output element gets another gradient.
void random_projection_loss(Graph& graph, Value y);
inline bool has_projection(const Graph& graph) {
  return std::any_of(graph.nodes().begin(), graph.nodes().end(),
                     [](const Node& node) { return node.op->name() == "projection"; });
}

// A graph bound to a device, with its own parameter storage.
class Program {
 public:
  Program(const Graph& graph, bool training, const DeviceCase& device,
          bool direct_convolution = true, std::vector<std::string> disabled = {})
      : stream_(comm::Device{device.kind, 0}, 1) {
    PlanOptions options;
    options.device = device.kind;
    options.training = training;
    options.precision = device.precision;
    if (device.kind == comm::DeviceKind::kCpu) options.tile = native_tile();
    options.disabled_fusions = std::move(disabled);
    Plan p = plan(graph, options);
    storage_ = std::make_unique<ParameterStorage>(p.layout, comm::Device{device.kind, 0});
    BindOptions bind{comm::Device{device.kind, 0}, stream_.view(), direct_convolution};
    bind.capture = !has_projection(*p.graph);  // which the host computes
    executable_ = std::make_unique<Executable>(std::move(p), *storage_, bind);
  }
  void set_parameter(const std::string& name, const std::vector<float>& v) {
    const Tensor parameter = storage_->parameter(name);
    std::vector<float> tiles(v.size());
    to_tiles(v, parameter.shape, parameter.tile, tiles);
    write(parameter, tiles.data(), tiles.size() * 4);
  }
  template <typename T>
  void set_input(const std::string& name, const std::vector<T>& v) {
    const Tensor input = executable_->input(name);
    if (input.type != Type::kBF16) return write(input, v.data(), v.size() * sizeof(T));
    const comm::Buffer staged(stream_.view().device(), v.size() * sizeof(T));
    const Tensor plain{staged.bytes().data(), Type::kF32, input.shape};
    write(plain, v.data(), v.size() * sizeof(T));
    reorder(stream_.view(), plain, input, false);
    stream_.view().synchronize();
  }
  void run() {
    StepObserver none;
    executable_->run(none, ++version_);
    stream_.view().synchronize();
  }
  template <typename T = float>
  std::vector<T> output(const std::string& name) const {
    return read<T>(executable_->output(name));
  }
  std::vector<float> gradient(const std::string& name) const {
    return plain(storage_->gradient(name));
  }
  std::vector<float> parameter(const std::string& name) const {
    return plain(storage_->parameter(name));
  }
  Executable& executable() { return *executable_; }
  ParameterStorage& storage() { return *storage_; }

 private:
  void write(const Tensor& tensor, const void* from, std::size_t bytes) {
    ASSERT_NE(tensor.data, nullptr);
    ASSERT_EQ(static_cast<std::int64_t>(bytes), tensor.shape.count() * type_bytes(tensor.type));
    comm::copy_bytes(stream_.view(), {tensor.data, bytes},
                     {static_cast<const std::byte*>(from), bytes});
    stream_.view().synchronize();
  }
  std::vector<float> plain(const Tensor& parameter) const {
    const std::vector<float> tiles = read<float>(parameter);
    std::vector<float> values(tiles.size());
    from_tiles(tiles, parameter.shape, parameter.tile, values);
    return values;
  }
  template <typename T>
  std::vector<T> read(const Tensor& tensor) const {
    std::vector<T> v(static_cast<std::size_t>(tensor.shape.count()));
    comm::copy_bytes(stream_.view(), std::as_writable_bytes(std::span<T>(v)),
                     {tensor.data, v.size() * sizeof(T)});
    stream_.view().synchronize();
    return v;
  }
  comm::Stream stream_;
  std::unique_ptr<ParameterStorage> storage_;
  std::unique_ptr<Executable> executable_;
  std::int64_t version_ = 0;
};

// A trainable tensor that stands for an activation, so that its gradient can be read.
inline Value variable(Graph& graph, const std::string& name, const Shape& shape) {
  return graph.parameter({name, shape, ParameterKind::kWeight});
}
inline Value constant(Graph& graph, const std::string& name, const Shape& shape) {
  Parameter p{name, shape, ParameterKind::kFixed};
  p.trainable = false;
  return graph.parameter(p);
}

// For every named variable: gradient from the plan against central differences of the loss
// "probe", at up to 24 elements spread over the tensor.
void expect_numeric_gradients(Program& program, const std::map<std::string, std::vector<float>>& at,
                              const std::vector<std::string>& variables, double tolerance,
                              double step = 1e-2);

}  // namespace models::testing
