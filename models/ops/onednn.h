#pragma once

#include <dnnl.hpp>
#include <memory>
#include <string>

#include "comm/buffer.h"
#include "models/graph/op.h"

namespace models::onednn {

// Runs a oneDNN call; its error becomes kBug naming `what` (shapes were checked before).
template <typename Call>
auto check(const std::string& what, Call call) -> decltype(call()) {
  try {
    return call();
  } catch (const dnnl::error& e) {
    comm::fail(comm::ExitCode::kBug, "oneDNN: {}: {} (status {})", what, e.what(),
               static_cast<int>(e.status));
  }
}

// Engine and stream of one executable.
struct Engine {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};
std::shared_ptr<Engine> engine(const KernelContext& context);

// The memory descriptor of a tensor in its physical order.
dnnl::memory::desc describe(const Tensor& tensor);

// A primitive with its arguments: set the handles, then run. Nothing is allocated here by a run.
class Call {
 public:
  Call() = default;
  Call(std::shared_ptr<Engine> engine, dnnl::primitive primitive);
  // `argument` as in DNNL_ARG_*.
  void bind(int argument, const dnnl::memory::desc& desc);
  void set(int argument, const void* data);
  void run() const;
  explicit operator bool() const { return engine_ != nullptr; }

 private:
  std::shared_ptr<Engine> engine_;
  dnnl::primitive primitive_;
  std::vector<int> names_;
  std::vector<dnnl::memory> memories_;
  std::vector<dnnl_exec_arg_t> arguments_;
};

}  // namespace models::onednn
