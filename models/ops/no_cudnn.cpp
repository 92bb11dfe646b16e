// A build without cuDNN: asking for a vendor op of that device is an error of the device choice.
#include "models/ops/batch_norm.h"
#include "models/ops/conv2d.h"
#include "models/ops/max_pool.h"

namespace models {
namespace {

[[noreturn]] void absent() {
  comm::fail(comm::ExitCode::kDevice,
             "this build has no convolutions, pooling and batch norm for GPUs; set "
             "runtime.device=cpu");
}

}  // namespace

std::unique_ptr<Kernel> compile_conv2d_cudnn(const Conv2dOp&, const KernelContext&) { absent(); }
std::unique_ptr<Kernel> compile_max_pool_cudnn(const MaxPoolOp&, const KernelContext&) { absent(); }
std::unique_ptr<Kernel> compile_batch_norm_cudnn(const BatchNormOp&, const KernelContext&) {
  absent();
}

}  // namespace models
