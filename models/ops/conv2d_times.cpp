#include "models/ops/conv2d_times.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <tuple>

#include "models/ops/onednn.h"

namespace models {
namespace {

using dnnl::algorithm;
using dnnl::memory;

auto key(const ConvProblem& p) {
  const ConvAttributes& a = p.attributes;
  return std::tuple(p.x.extents, p.weight.extents, p.y.extents, a.stride, a.padding, a.dilation,
                    a.groups, p.data_gradient, p.weight_gradient);
}

// The passes of one convolution as bare primitives.
class PassTimer {
 public:
  PassTimer(const ConvProblem& problem, int runs)
      : runs_(runs), x_(any(problem.x)), y_(any(problem.y)), engine_(std::make_shared<Engine>()) {
    const ConvAttributes& a = problem.attributes;
    const Shape& w = problem.weight;
    const auto f32 = memory::data_type::f32;
    weight_ = a.groups == 1 ? any(w)
                            : memory::desc({a.groups, w[0] / a.groups, w[1], w[2], w[3]}, f32,
                                           memory::format_tag::any);
    strides_ = {a.stride, a.stride};
    padding_ = {a.padding, a.padding};
    dilation_ = {a.dilation - 1, a.dilation - 1};
  }

  double forward(algorithm choice) {
    return timed([&] {
      const auto desc = forward_desc(choice);
      return onednn_call(dnnl::convolution_forward(desc), {{DNNL_ARG_SRC, desc.src_desc()},
                                                           {DNNL_ARG_WEIGHTS, desc.weights_desc()},
                                                           {DNNL_ARG_DST, desc.dst_desc()}});
    });
  }
  double backward_data(algorithm choice) {
    return timed([&] {
      const dnnl::convolution_backward_data::primitive_desc desc(
          {choice, x_, weight_, y_, strides_, dilation_, padding_, padding_}, engine_->engine,
          forward_desc(choice));
      return onednn_call(dnnl::convolution_backward_data(desc),
                         {{DNNL_ARG_DIFF_SRC, desc.diff_src_desc()},
                          {DNNL_ARG_WEIGHTS, desc.weights_desc()},
                          {DNNL_ARG_DIFF_DST, desc.diff_dst_desc()}});
    });
  }
  double backward_weights(algorithm choice) {
    return timed([&] {
      const dnnl::convolution_backward_weights::primitive_desc desc(
          {choice, x_, weight_, y_, strides_, dilation_, padding_, padding_}, engine_->engine,
          forward_desc(choice));
      return onednn_call(dnnl::convolution_backward_weights(desc),
                         {{DNNL_ARG_SRC, desc.src_desc()},
                          {DNNL_ARG_DIFF_WEIGHTS, desc.diff_weights_desc()},
                          {DNNL_ARG_DIFF_DST, desc.diff_dst_desc()}});
    });
  }

 private:
  using Engine = onednn::Engine;

  static memory::desc any(const Shape& shape) {
    return {
        {shape[0], shape[1], shape[2], shape[3]}, memory::data_type::f32, memory::format_tag::any};
  }

  dnnl::convolution_forward::primitive_desc forward_desc(algorithm choice) const {
    return {{dnnl::prop_kind::forward_training, choice, x_, weight_, y_, strides_, dilation_,
             padding_, padding_},
            engine_->engine};
  }

  onednn::Call onednn_call(dnnl::primitive primitive,
                           const std::vector<std::pair<int, memory::desc>>& arguments) {
    onednn::Call call(engine_, std::move(primitive));
    buffers_.clear();
    for (const auto& [argument, desc] : arguments) {
      call.bind(argument, desc);
      buffers_.emplace_back(comm::Device{}, desc.get_size(), comm::Fill::kZero);
      call.set(argument, buffers_.back().bytes().data());
    }
    return call;
  }

  // Infinite where there is no such primitive.
  template <typename Make>
  double timed(Make make) {
    double best = std::numeric_limits<double>::infinity();
    try {
      const onednn::Call call = make();
      for (int i = 0; i < runs_; ++i) {
        const auto start = std::chrono::steady_clock::now();
        call.run();
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
        best = std::min(best, taken.count());
      }
    } catch (const dnnl::error& e) {
      if (e.status != dnnl_unimplemented) throw;
    }
    return best;
  }

  int runs_;
  memory::desc x_, y_, weight_;
  memory::dims strides_, padding_, dilation_;
  std::shared_ptr<Engine> engine_;
  std::vector<comm::Buffer> buffers_;
};

void add(ConvTimes& times, double direct, double winograd) {
  times.direct += direct;
  times.best += std::min(direct, winograd);
}

}  // namespace

bool ConvProblem::operator<(const ConvProblem& other) const { return key(*this) < key(other); }

ConvTimes time_conv2d(const ConvProblem& problem, int runs) {
  constexpr auto kDirect = algorithm::convolution_direct;
  constexpr auto kWinograd = algorithm::convolution_winograd;
  return onednn::check("timing a convolution", [&] {
    PassTimer timer(problem, runs);
    ConvTimes times;
    add(times, timer.forward(kDirect), timer.forward(kWinograd));
    if (problem.data_gradient) {
      add(times, timer.backward_data(kDirect), timer.backward_data(kWinograd));
    }
    if (problem.weight_gradient) {
      add(times, timer.backward_weights(kDirect), timer.backward_weights(kWinograd));
    }
    return times;
  });
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("{}.{}.{}", version->major, version->minor, version->patch);
}

}  // namespace models
