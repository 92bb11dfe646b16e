#include "models/ops/dropout.h"

#include <fmt/format.h>

#include "comm/random.h"
#include "models/ops/elementwise.h"

namespace models {
namespace {

std::uint64_t fnv1a(const std::string& text) {
  std::uint64_t hash = 0xCBF29CE484222325ull;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return hash;
}

// What decides a mask besides the sample.
struct Key {
  std::uint64_t seed, place;
  float p;
};

// Elements 4 d to 4 d + 3 of sample n in its plain order: one draw. to (+)= mask from / (1 - p)
template <typename T>
struct Mask {
  const T* from;
  T* to;
  const std::int64_t* sample_id;  // (N)
  const std::int32_t* epoch;      // (N)
  Key key;
  std::int64_t draws, channels, cells;  // a sample's
  int block;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t n = i / draws, draw = i % draws;
    const std::uint64_t stream =
        key.place ^ (static_cast<std::uint64_t>(sample_id[n]) * 0x9E3779B97F4A7C15ull);
    const comm::Random4 random =
        comm::philox(key.seed, comm::Purpose::kDropout, stream,
                     static_cast<std::uint32_t>(epoch[n]), static_cast<std::uint32_t>(draw));
    const float factor = 1.0f / (1.0f - key.p);
    const std::int64_t blocks = (channels + block - 1) / block;
    for (std::int64_t lane = 0; lane < 4; ++lane) {
      const std::int64_t element = 4 * draw + lane;
      if (element >= channels * cells) return;
      const std::int64_t c = element / cells, cell = element % cells;
      const std::int64_t at = ((n * blocks + c / block) * cells + cell) * block + c % block;
      const float value = comm::uniform(random.v[lane]) < key.p ? 0.0f : from[at] * factor;
      to[at] = accumulate ? to[at] + value : value;
    }
  }
};

// The channels that only fill the last block, at cell i % cells of sample i / cells.
template <typename T>
struct ClearPadding {
  T* to;
  std::int64_t channels, cells;
  int block;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t blocks = (channels + block - 1) / block;
    T* last = to + ((i / cells * blocks + blocks - 1) * cells + i % cells) * block;
    for (std::int64_t lane = channels % block; lane < block; ++lane) last[lane] = 0.0f;
  }
};

template <typename T>
class DropoutKernel final : public Kernel {
 public:
  DropoutKernel(comm::StreamView stream, const Key& key) : stream_(stream), key_(key) {}
  void forward(const KernelArgs& args) override {
    run(args, args.inputs[0], args.outputs[0], GradientMode::kOverwrite);
  }
  void backward(const KernelArgs& args) override {
    run(args, args.doutputs[0], args.dinputs[0], args.modes[0]);
  }

 private:
  void run(const KernelArgs& args, const Tensor& from, const Tensor& to, GradientMode mode) const {
    const Shape& s = from.shape;
    const bool maps = s.rank == 4;
    const std::int64_t channels = maps ? s[1] : 1;
    const std::int64_t elements = s.count() / s[0], cells = elements / channels;
    const std::int64_t draws = (elements + 3) / 4;
    const int block = maps ? from.channel_block : 1;
    const bool accumulate = mode == GradientMode::kAccumulate;
    comm::parallel_for(stream_, s[0] * draws,
                       Mask<T>{from.as<T>(), to.as<T>(), args.inputs[1].as<const std::int64_t>(),
                               args.inputs[2].as<const std::int32_t>(), key_, draws, channels,
                               cells, block, accumulate},
                       512);
    if (channels % block != 0 && !accumulate) {
      comm::parallel_for(stream_, s[0] * cells,
                         ClearPadding<T>{to.as<T>(), channels, cells, block});
    }
  }
  comm::StreamView stream_;
  Key key_;
};

class DropoutOp final : public Op {
 public:
  explicit DropoutOp(const Key& key) : key_(key) {}
  std::string name() const override { return "dropout"; }
  std::string attributes() const override { return fmt::format("p {:g}", key_.p); }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const Shape per_sample = {inputs[0].shape[0]};
    REQUIRE(inputs[1] == (ValueSpec{Type::kI64, per_sample}) &&
                inputs[2] == (ValueSpec{Type::kI32, per_sample}),
            "dropout of {} with samples {} and epochs {}", to_string(inputs[0].shape),
            to_string(inputs[1].shape), to_string(inputs[2].shape));
    return {inputs[0]};
  }
  bool differentiable(int input) const override { return input == 0; }
  Saved saved() const override { return {{1, 2}, {}}; }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return make_kernel<DropoutKernel>(context.outputs[0].type, context.stream, key_);
  }

 private:
  Key key_;
};

}  // namespace

Value dropout(Graph& graph, Value x, float p, std::uint64_t seed, Value sample_id, Value epoch) {
  REQUIRE(p >= 0.0f && p < 1.0f, "dropout {}", p);
  const Key key{seed, fnv1a(graph.scope()), p};
  return graph.add(std::make_shared<DropoutOp>(key), {x, sample_id, epoch})[0];
}

}  // namespace models
