#include "trainer/optim/update.h"

#include <cmath>

#include "comm/parallel.h"
#include "models/graph/parameter_layout.h"

namespace trainer {
namespace {

constexpr float kStatisticMomentum = 0.1f;  // of running statistics, as PyTorch's default

// Where no gradient ever was, as in padding, denominators without epsilon are 0: nothing moves
// there.
RIDGELINE_HD inline float quotient(float a, float b) { return b == 0.0f ? 0.0f : a / b; }

// A rule turns (w, g) into the new w; `i` indexes its state inside the shard. `metric` is what L1's
// threshold is multiplied with: lr, or lr / sqrt(v) where the rule scales each element.
// What is the same for all elements is a template's argument: a branch keeps a loop from being a
// vector.
struct PlainSgd {
  RIDGELINE_HD float apply(std::int64_t, float w, float g, const Segment& s, float& metric) const {
    metric = s.lr;
    return w - s.lr * g;
  }
};

template <bool kNesterov>
struct Sgd {
  float* momentum;
  float mu;
  RIDGELINE_HD float apply(std::int64_t i, float w, float g, const Segment& s,
                           float& metric) const {
    metric = s.lr;
    const float b = mu * momentum[i] + g;
    momentum[i] = b;
    return w - s.lr * (kNesterov ? g + mu * b : b);
  }
};

// m = mu m + lr trust g; w -= m
struct Lars {
  float* momentum;
  float mu;
  RIDGELINE_HD float apply(std::int64_t i, float w, float g, const Segment& s,
                           float& metric) const {
    metric = s.lr;
    const float b = mu * momentum[i] + s.lr * s.trust * g;
    momentum[i] = b;
    return w - b;
  }
};

struct Adam {
  float *mean, *square;
  float rest1, beta2, rest2, eps;  // 1 - beta1, beta2, 1 - beta2
  float correction1, root2;        // 1 - beta1^t, sqrt(1 - beta2^t)
  RIDGELINE_HD float apply(std::int64_t i, float w, float g, const Segment& s,
                           float& metric) const {
    const float m = mean[i] + (g - mean[i]) * rest1;
    const float v = square[i] * beta2 + rest2 * g * g;
    mean[i] = m;
    square[i] = v;
    const float denominator = std::sqrt(v) / root2 + eps;
    metric = quotient(s.lr, denominator);
    return w - s.lr / correction1 * quotient(m, denominator);
  }
};

struct Adagrad {
  float* sum;
  float eps;
  RIDGELINE_HD float apply(std::int64_t i, float w, float g, const Segment& s,
                           float& metric) const {
    sum[i] += g * g;
    const float denominator = std::sqrt(sum[i]) + eps;
    metric = quotient(s.lr, denominator);
    return w - s.lr * quotient(g, denominator);
  }
};

template <bool kMomentum>
struct RmsProp {
  float *square, *momentum;
  float alpha, rest, eps, mu;  // rest: 1 - alpha
  RIDGELINE_HD float apply(std::int64_t i, float w, float g, const Segment& s,
                           float& metric) const {
    square[i] = square[i] * alpha + rest * g * g;
    const float average = std::sqrt(square[i]) + eps;
    metric = quotient(s.lr, average);
    if constexpr (!kMomentum) return w - s.lr * quotient(g, average);
    momentum[i] = mu * momentum[i] + quotient(g, average);
    return w - s.lr * momentum[i];
  }
};

// Adds in the fixed order of lane_sum: lanes of 32, then a tree.
struct Lanes {
  double lane[comm::kReduceLanes] = {};
  RIDGELINE_HD double total() {
    for (std::int64_t width = comm::kReduceLanes / 2; width > 0; width /= 2)
      for (std::int64_t l = 0; l < width; ++l) lane[l] += lane[l + width];
    return lane[0];
  }
};

template <typename Rule>
struct UpdateBlock {
  float* w;
  const float* g;
  float* ema;
  const std::int32_t* segment_of_block;
  const Segment* segments;
  BlockSums* sums;
  Rule rule;
  float scale, clip, ema_decay;
  bool measures;

  RIDGELINE_HD void operator()(std::int64_t block) const {
    const std::int64_t begin = block * models::kBlockElements;
    const Segment s = segments[segment_of_block[block]];
    BlockSums total;
    if (s.statistic) {
      for (std::int64_t i = begin; i < begin + models::kBlockElements; ++i) {
        const float change = kStatisticMomentum * (g[i] * scale - w[i]);
        w[i] += change;
        total.update += double{change} * change;
        if (ema) ema[i] = w[i];
      }
      sums[block] = total;
      return;
    }
    if (!measures) return check(begin, s, sums[block]);
    Lanes gradient, weight, update, zeros;
    for (std::int64_t i = begin; i < begin + models::kBlockElements; i += kChunk) {
      Elements e;
      move(i, s, e);
      for (std::int64_t k = 0; k < kChunk; k += comm::kReduceLanes) {
        for (std::int64_t l = 0; l < comm::kReduceLanes; ++l) {
          const float old = e.old[k + l], raw = e.raw[k + l], value = e.value[k + l];
          const double change = double{value} - old;
          gradient.lane[l] += double{raw} * raw;
          weight.lane[l] += double{old} * old;
          update.lane[l] += change * change;
          zeros.lane[l] += value == 0.0f ? 1.0 : 0.0;
        }
      }
    }
    sums[block] = {gradient.total(), weight.total(), update.total(), zeros.total()};
  }

  // Without sums: gradient and weights are finite, or not. 0 x is NaN where x is not.
  RIDGELINE_HD void check(std::int64_t begin, const Segment& s, BlockSums& sum) const {
    float trace[kChunk] = {};
    for (std::int64_t i = begin; i < begin + models::kBlockElements; i += kChunk) {
      Elements e;
      move(i, s, e);
      for (std::int64_t k = 0; k < kChunk; ++k) trace[k] += 0.0f * e.raw[k] + 0.0f * e.value[k];
    }
    sum = {};
    for (const float lane : trace) sum.gradient += lane;
  }

  static constexpr std::int64_t kChunk = 128;  // long loops, yet all stays in the first cache
  struct Elements {
    float old[kChunk], raw[kChunk], value[kChunk];
  };

  // The kChunk elements from i on. Loops without branches, which the compiler turns into vectors.
  RIDGELINE_HD void move(std::int64_t i, const Segment& s, Elements& e) const {
    float metric[kChunk];
    for (std::int64_t k = 0; k < kChunk; ++k) {
      e.old[k] = w[i + k];
      e.raw[k] = g[i + k] * scale + s.loss_decay * e.old[k];
    }
    for (std::int64_t k = 0; k < kChunk; ++k) {
      const float d = e.raw[k] * clip + s.coupled_decay * e.old[k];
      e.value[k] = rule.apply(i + k, e.old[k] * (1.0f - s.decoupled_decay), d, s, metric[k]);
    }
    if (s.soft_threshold > 0.0f) {
      for (std::int64_t k = 0; k < kChunk; ++k) {
        const float shrunk = std::fabs(e.value[k]) - metric[k] * s.soft_threshold;
        e.value[k] = shrunk > 0.0f ? std::copysign(shrunk, e.value[k]) : 0.0f;
      }
    }
    for (std::int64_t k = 0; k < kChunk; ++k) w[i + k] = e.value[k];
    if (!ema) return;
    for (std::int64_t k = 0; k < kChunk; ++k) {
      ema[i + k] = ema_decay * ema[i + k] + (1.0f - ema_decay) * e.value[k];
    }
  }
};

struct NormsOfBlock {
  const float *w, *g;
  const std::int32_t* segment_of_block;
  const Segment* segments;
  BlockSums* sums;
  float scale;
  RIDGELINE_HD void operator()(std::int64_t block) const {
    const std::int64_t begin = block * models::kBlockElements;
    const Segment s = segments[segment_of_block[block]];
    Lanes gradient, weight;
    for (std::int64_t i = begin; i < begin + models::kBlockElements; i += comm::kReduceLanes) {
      for (std::int64_t l = 0; l < comm::kReduceLanes; ++l) {
        const float raw = g[i + l] * scale + s.loss_decay * w[i + l];
        gradient.lane[l] += double{raw} * raw;
        weight.lane[l] += double{w[i + l]} * w[i + l];
      }
    }
    sums[block] = {s.statistic ? 0.0 : gradient.total(), s.statistic ? 0.0 : weight.total(), 0, 0};
  }
};

std::int64_t num_blocks(const ShardView& shard) {
  return static_cast<std::int64_t>(shard.gradient.size()) / models::kBlockElements;
}

template <typename Rule>
void run(comm::StreamView stream, const ShardView& shard, std::span<const Segment> segments,
         const UpdateScalars& scalars, std::span<BlockSums> sums, const Rule& rule) {
  comm::parallel_for(
      stream, num_blocks(shard),
      UpdateBlock<Rule>{shard.parameters.data(), shard.gradient.data(), shard.ema,
                        shard.segment_of_block, segments.data(), sums.data(), rule,
                        scalars.gradient_scale, scalars.clip, scalars.ema_decay, scalars.measures},
      16);
}

}  // namespace

void shard_norms(comm::StreamView stream, const ShardView& shard, std::span<const Segment> segments,
                 float gradient_scale, std::span<BlockSums> sums) {
  comm::parallel_for(
      stream, num_blocks(shard),
      NormsOfBlock{shard.parameters.data(), shard.gradient.data(), shard.segment_of_block,
                   segments.data(), sums.data(), gradient_scale},
      16);
}

void update_shard(comm::StreamView stream, const ShardView& shard,
                  std::span<const Segment> segments, const UpdateScalars& scalars,
                  std::span<BlockSums> sums) {
  const OptimizerConfig& o = scalars.rule;
  const auto mu = static_cast<float>(o.momentum), eps = static_cast<float>(o.eps);
  const double t = static_cast<double>(scalars.step) + 1.0;
  // 1 - beta is rounded once, as PyTorch does: 1.0f - 0.999f is off by 5e-5 of itself.
  switch (o.name) {
    case OptimizerName::kSgd:
      if (mu == 0.0f) return run(stream, shard, segments, scalars, sums, PlainSgd{});
      if (o.nesterov) {
        return run(stream, shard, segments, scalars, sums, Sgd<true>{shard.state1, mu});
      }
      return run(stream, shard, segments, scalars, sums, Sgd<false>{shard.state1, mu});
    case OptimizerName::kLars:
      return run(stream, shard, segments, scalars, sums, Lars{shard.state1, mu});
    case OptimizerName::kAdam:
    case OptimizerName::kAdamw:
      return run(stream, shard, segments, scalars, sums,
                 Adam{shard.state1, shard.state2, static_cast<float>(1.0 - o.betas[0]),
                      static_cast<float>(o.betas[1]), static_cast<float>(1.0 - o.betas[1]), eps,
                      static_cast<float>(1.0 - std::pow(o.betas[0], t)),
                      static_cast<float>(std::sqrt(1.0 - std::pow(o.betas[1], t)))});
    case OptimizerName::kAdagrad:
      return run(stream, shard, segments, scalars, sums, Adagrad{shard.state1, eps});
    case OptimizerName::kRmsprop: {
      const auto alpha = static_cast<float>(o.alpha), rest = static_cast<float>(1.0 - o.alpha);
      if (mu == 0.0f) {
        return run(stream, shard, segments, scalars, sums,
                   RmsProp<false>{shard.state1, nullptr, alpha, rest, eps, 0.0f});
      }
      return run(stream, shard, segments, scalars, sums,
                 RmsProp<true>{shard.state1, shard.state2, alpha, rest, eps, mu});
    }
  }
}

}  // namespace trainer
