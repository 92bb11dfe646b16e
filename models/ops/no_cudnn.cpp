// A build without cuDNN: asking for its convolutions is an error of the device choice.
#include "models/ops/conv_engine.h"

namespace models {
namespace {

[[noreturn]] void absent() {
  comm::fail(comm::ExitCode::kDevice,
             "this build has no convolutions for GPUs; set runtime.device=cpu or run "
             "`launch/build cuda`");
}

}  // namespace

std::shared_ptr<ConvLibrary> open_cudnn(const KernelContext&) { absent(); }
std::shared_ptr<ConvLibrary> describe_cudnn(const std::string&) { absent(); }

}  // namespace models
