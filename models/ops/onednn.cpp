#include "models/ops/onednn.h"

namespace models::onednn {

using dnnl::memory;

std::shared_ptr<Engine> engine(const KernelContext& context) {
  return context.shared->get<Engine>("onednn.engine", [] { return std::make_shared<Engine>(); });
}

memory::desc describe(const Tensor& tensor) {
  REQUIRE(tensor.type == Type::kF32, "oneDNN reads f32 only");
  memory::dims dims;
  for (int d = 0; d < tensor.shape.rank; ++d) dims.push_back(tensor.shape[d]);
  using tag = memory::format_tag;
  tag order = tag::undef;
  switch (tensor.shape.rank) {
    case 1: order = tag::a; break;
    case 2: order = tag::ab; break;
    case 4:
      order = tensor.channel_block == 16  ? tag::nChw16c
              : tensor.channel_block == 8 ? tag::nChw8c
                                          : tag::nchw;
      break;
    default: REQUIRE(false, "rank {}", tensor.shape.rank);
  }
  return {dims, memory::data_type::f32, order};
}

Call::Call(std::shared_ptr<Engine> engine, dnnl::primitive primitive)
    : engine_(std::move(engine)), primitive_(std::move(primitive)) {}

void Call::bind(int argument, const memory::desc& desc) {
  names_.push_back(argument);
  memories_.emplace_back(desc, engine_->engine, nullptr);
  arguments_.push_back({argument, memories_.back().get()});
}

void Call::set(int argument, const void* data) {
  for (std::size_t i = 0; i < names_.size(); ++i) {
    if (names_[i] == argument) return memories_[i].set_data_handle(const_cast<void*>(data));
  }
  REQUIRE(false, "argument {} was not bound", argument);
}

void Call::run() const {
  const dnnl_status_t status =
      dnnl_primitive_execute(primitive_.get(), engine_->stream.get(),
                             static_cast<int>(arguments_.size()), arguments_.data());
  REQUIRE(status == dnnl_success, "oneDNN status {}", static_cast<int>(status));
}

}  // namespace models::onednn
