#include "models/ops/on_host.h"

#include <omp.h>

#include "comm/buffer.h"

namespace models {
namespace {

using Compile = std::function<std::unique_ptr<Kernel>(const KernelContext&)>;

class OnHost final : public Kernel {
 public:
  OnHost(const KernelContext& context, const Compile& compile)
      : device_stream_(context.stream),
        stream_(comm::Device{}, omp_get_max_threads()),
        inputs_(mirror(context.inputs)),
        outputs_(mirror(context.outputs)) {
    KernelContext host = context;
    host.device = comm::Device{};
    host.stream = stream_.view();
    host.inputs = inputs_;
    host.outputs = outputs_;
    host.shared = host.engines = &shared_;
    kernel_ = compile(host);
    workspace_ = comm::Buffer({}, static_cast<std::size_t>(kernel_->workspace_bytes()));
  }

  std::string implementation() const override { return "on the host"; }
  bool waits_for_device() const override { return true; }

  void forward(const KernelArgs& args) override {
    for (std::size_t i = 0; i < inputs_.size(); ++i) copy(args.inputs[i], inputs_[i]);
    device_stream_.synchronize();
    kernel_->forward({inputs_, outputs_, {}, {}, {}, workspace_.bytes(), args.parameter_version});
    for (std::size_t i = 0; i < outputs_.size(); ++i) copy(outputs_[i], args.outputs[i]);
    device_stream_.synchronize();  // the next call writes here again
  }

 private:
  std::vector<Tensor> mirror(const std::vector<Tensor>& tensors) {
    std::vector<Tensor> result = tensors;
    for (Tensor& tensor : result) {
      memory_.emplace_back(comm::Device{}, static_cast<std::size_t>(tensor.physical_bytes()));
      tensor.data = memory_.back().bytes().data();
    }
    return result;
  }
  void copy(const Tensor& from, const Tensor& to) const {
    const auto bytes = static_cast<std::size_t>(from.physical_bytes());
    comm::copy_bytes(device_stream_, {to.data, bytes}, {from.data, bytes});
  }

  comm::StreamView device_stream_;
  comm::Stream stream_;
  SharedState shared_;  // what kernels of the device share is not the host's
  std::vector<comm::Buffer> memory_;
  std::vector<Tensor> inputs_, outputs_;
  std::unique_ptr<Kernel> kernel_;
  comm::Buffer workspace_;
};

}  // namespace

std::unique_ptr<Kernel> run_on_host(const KernelContext& context, const Compile& compile) {
  return std::make_unique<OnHost>(context, compile);
}

}  // namespace models
