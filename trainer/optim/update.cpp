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
  float rest1, beta2, rest2, eps;    // 1 - beta1, beta2, 1 - beta2
  float correction1 = 1, root2 = 1;  // of the step
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
static_assert(kLanes == comm::kReduceLanes);
struct Lanes {
  double lane[kLanes] = {};
  RIDGELINE_HD double total() {
    for (std::int64_t width = kLanes / 2; width > 0; width /= 2)
      for (std::int64_t l = 0; l < width; ++l) lane[l] += lane[l + width];
    return lane[0];
  }
};

// The rule as it is in this step.
template <typename Rule>
RIDGELINE_HD Rule in_step(const Rule& rule, const StepScalars&) {
  return rule;
}
RIDGELINE_HD inline Adam in_step(Adam rule, const StepScalars& step) {
  rule.correction1 = step.correction1;
  rule.root2 = step.root2;
  return rule;
}

// What an update reads and writes, and its arithmetic on one element.
template <typename Rule>
struct Update {
  float* w;
  const float* g;
  float* ema;
  const std::int32_t* segment_of_block;
  const Segment* segments;
  const StepScalars* step;
  Rule rule;
  float scale, ema_decay;

  RIDGELINE_HD float raw(std::int64_t i, float old, const Segment& s) const {
    return g[i] * scale + s.loss_decay * old;
  }
  RIDGELINE_HD static float moved(const Rule& now, std::int64_t i, float old, float clipped,
                                  const Segment& s, float& metric) {
    const float d = clipped + s.coupled_decay * old;
    return now.apply(i, old * (1.0f - s.decoupled_decay), d, s, metric);
  }
  RIDGELINE_HD static float shrunk(float value, float threshold) {
    const float rest = std::fabs(value) - threshold;
    return rest > 0.0f ? std::copysign(rest, value) : 0.0f;
  }
  RIDGELINE_HD float change_of_statistic(std::int64_t i) const {
    return kStatisticMomentum * (g[i] * scale - w[i]);
  }
  RIDGELINE_HD float averaged(std::int64_t i, float value) const {
    return ema_decay * ema[i] + (1.0f - ema_decay) * value;
  }
};

template <typename Rule>
struct UpdateBlock {
  Update<Rule> u;
  BlockSums* sums;
  bool measures;

  RIDGELINE_HD void operator()(std::int64_t block) const {
    const std::int64_t begin = block * models::kBlockElements;
    const Segment s = u.segments[u.segment_of_block[block]];
    if (s.statistic) return average(begin, sums[block]);
    const StepScalars step = *u.step;
    const Rule now = in_step(u.rule, step);
    if (!measures) return check(begin, s, now, step.clip, sums[block]);
    Lanes gradient, weight, update, zeros;
    for (std::int64_t i = begin; i < begin + models::kBlockElements; i += kChunk) {
      Elements e;
      move(i, s, now, step.clip, e);
      for (std::int64_t k = 0; k < kChunk; k += kLanes) {
        for (std::int64_t l = 0; l < kLanes; ++l) {
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

  RIDGELINE_HD void average(std::int64_t begin, BlockSums& sum) const {
    BlockSums total;
    for (std::int64_t i = begin; i < begin + models::kBlockElements; ++i) {
      const float change = u.change_of_statistic(i);
      u.w[i] += change;
      total.update += double{change} * change;
      if (u.ema) u.ema[i] = u.w[i];
    }
    sum = total;
  }

  // Without sums: gradient and weights are finite, or not. 0 x is NaN where x is not.
  RIDGELINE_HD void check(std::int64_t begin, const Segment& s, const Rule& now, float clip,
                          BlockSums& sum) const {
    float trace[kChunk] = {};
    for (std::int64_t i = begin; i < begin + models::kBlockElements; i += kChunk) {
      Elements e;
      move(i, s, now, clip, e);
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
  RIDGELINE_HD void move(std::int64_t i, const Segment& s, const Rule& now, float clip,
                         Elements& e) const {
    float metric[kChunk];
    for (std::int64_t k = 0; k < kChunk; ++k) {
      e.old[k] = u.w[i + k];
      e.raw[k] = u.raw(i + k, e.old[k], s);
    }
    for (std::int64_t k = 0; k < kChunk; ++k) {
      e.value[k] = u.moved(now, i + k, e.old[k], e.raw[k] * clip, s, metric[k]);
    }
    if (s.soft_threshold > 0.0f) {
      for (std::int64_t k = 0; k < kChunk; ++k) {
        e.value[k] = u.shrunk(e.value[k], metric[k] * s.soft_threshold);
      }
    }
    for (std::int64_t k = 0; k < kChunk; ++k) u.w[i + k] = e.value[k];
    if (!u.ema) return;
    for (std::int64_t k = 0; k < kChunk; ++k) u.ema[i + k] = u.averaged(i + k, e.value[k]);
  }
};

// Elements l, l + 32, ... of a block: neighbouring threads of a GPU read neighbouring elements.
struct LaneOfBlock {
  std::int64_t block, begin, end;
  RIDGELINE_HD explicit LaneOfBlock(std::int64_t index)
      : block(index / kLanes),
        begin(block * models::kBlockElements + index % kLanes),
        end((block + 1) * models::kBlockElements) {}
};

template <typename Rule, bool kMeasures>
struct UpdateLane {
  Update<Rule> u;
  BlockSums* lanes;  // where kMeasures
  std::int32_t* non_finite;

  RIDGELINE_HD void operator()(std::int64_t index) const {
    const LaneOfBlock lane(index);
    const Segment s = u.segments[u.segment_of_block[lane.block]];
    const StepScalars step = *u.step;
    const Rule now = in_step(u.rule, step);
    BlockSums sum;
    float trace = 0;
    for (std::int64_t i = lane.begin; i < lane.end; i += kLanes) {
      const float old = u.w[i], raw = s.statistic ? 0.0f : u.raw(i, old, s);
      const float value =
          s.statistic ? old + u.change_of_statistic(i) : value_of(i, old, raw * step.clip, s, now);
      trace += 0.0f * raw + 0.0f * value;
      if (0.0f * value != 0.0f) continue;
      u.w[i] = value;
      if (u.ema) u.ema[i] = s.statistic ? value : u.averaged(i, value);
      if constexpr (kMeasures) add(old, raw, value, s.statistic, sum);
    }
    if (0.0f * trace != 0.0f) *non_finite = 1;  // whoever writes writes the same
    if constexpr (kMeasures) lanes[index] = sum;
  }

  RIDGELINE_HD static void add(float old, float raw, float value, bool statistic, BlockSums& sum) {
    const double change = double{value} - old;
    sum.update += change * change;
    if (statistic) return;
    sum.gradient += double{raw} * raw;
    sum.weight += double{old} * old;
    sum.zeros += value == 0.0f ? 1.0 : 0.0;
  }

  RIDGELINE_HD float value_of(std::int64_t i, float old, float clipped, const Segment& s,
                              const Rule& now) const {
    float metric;
    const float value = u.moved(now, i, old, clipped, s, metric);
    return s.soft_threshold > 0.0f ? u.shrunk(value, metric * s.soft_threshold) : value;
  }
};

// sums[block] = the sum over its lanes.
struct FoldLanes {
  const BlockSums* lanes;
  BlockSums* sums;
  RIDGELINE_HD void operator()(std::int64_t block) const {
    Lanes gradient, weight, update, zeros;
    for (std::int64_t l = 0; l < kLanes; ++l) {
      const BlockSums& lane = lanes[block * kLanes + l];
      gradient.lane[l] = lane.gradient;
      weight.lane[l] = lane.weight;
      update.lane[l] = lane.update;
      zeros.lane[l] = lane.zeros;
    }
    sums[block] = {gradient.total(), weight.total(), update.total(), zeros.total()};
  }
};

struct Norms {
  const float *w, *g;
  const std::int32_t* segment_of_block;
  const Segment* segments;
  float scale;
  RIDGELINE_HD float raw(std::int64_t i, const Segment& s) const {
    return g[i] * scale + s.loss_decay * w[i];
  }
};

struct NormsOfBlock {
  Norms n;
  BlockSums* sums;
  RIDGELINE_HD void operator()(std::int64_t block) const {
    const std::int64_t begin = block * models::kBlockElements;
    const Segment s = n.segments[n.segment_of_block[block]];
    Lanes gradient, weight;
    for (std::int64_t i = begin; i < begin + models::kBlockElements; i += kLanes) {
      for (std::int64_t l = 0; l < kLanes; ++l) {
        const float raw = n.raw(i + l, s);
        gradient.lane[l] += double{raw} * raw;
        weight.lane[l] += double{n.w[i + l]} * n.w[i + l];
      }
    }
    sums[block] = {s.statistic ? 0.0 : gradient.total(), s.statistic ? 0.0 : weight.total(), 0, 0};
  }
};

struct NormsOfLane {
  Norms n;
  BlockSums* lanes;
  RIDGELINE_HD void operator()(std::int64_t index) const {
    const LaneOfBlock lane(index);
    const Segment s = n.segments[n.segment_of_block[lane.block]];
    BlockSums sum;
    for (std::int64_t i = lane.begin; i < lane.end && !s.statistic; i += kLanes) {
      const float raw = n.raw(i, s);
      sum.gradient += double{raw} * raw;
      sum.weight += double{n.w[i]} * n.w[i];
    }
    lanes[index] = sum;
  }
};

std::int64_t num_blocks(const ShardView& shard) {
  return static_cast<std::int64_t>(shard.gradient.size()) / models::kBlockElements;
}

template <typename Rule>
void run(comm::StreamView stream, const ShardView& shard, const UpdateScalars& scalars,
         const FoundView& found, const Rule& rule) {
  const Update<Rule> update{shard.parameters.data(),
                            shard.gradient.data(),
                            shard.ema,
                            shard.segment_of_block,
                            shard.segments,
                            shard.step,
                            rule,
                            scalars.gradient_scale,
                            scalars.ema_decay};
  const std::int64_t count = num_blocks(shard);
  if (stream.on_cpu()) {
    return comm::parallel_for(stream, count,
                              UpdateBlock<Rule>{update, found.sums.data(), scalars.measures}, 16);
  }
  if (!scalars.measures) {
    const UpdateLane<Rule, false> body{update, nullptr, found.non_finite};
    return comm::parallel_for(stream, count * kLanes, body);
  }
  BlockSums* const lanes = found.lanes.data();
  const UpdateLane<Rule, true> body{update, lanes, found.non_finite};
  comm::parallel_for(stream, count * kLanes, body);
  comm::parallel_for(stream, count, FoldLanes{lanes, found.sums.data()});
}

}  // namespace

StepScalars step_scalars(const OptimizerConfig& rule, std::int64_t step, float clip) {
  const double t = static_cast<double>(step) + 1.0;
  return {clip, static_cast<float>(1.0 - std::pow(rule.betas[0], t)),
          static_cast<float>(std::sqrt(1.0 - std::pow(rule.betas[1], t)))};
}

void shard_norms(comm::StreamView stream, const ShardView& shard, float gradient_scale,
                 const FoundView& found) {
  const Norms norms{shard.parameters.data(), shard.gradient.data(), shard.segment_of_block,
                    shard.segments, gradient_scale};
  const std::int64_t count = num_blocks(shard);
  if (stream.on_cpu()) {
    return comm::parallel_for(stream, count, NormsOfBlock{norms, found.sums.data()}, 16);
  }
  comm::parallel_for(stream, count * kLanes, NormsOfLane{norms, found.lanes.data()});
  comm::parallel_for(stream, count, FoldLanes{found.lanes.data(), found.sums.data()});
}

void update_shard(comm::StreamView stream, const ShardView& shard, const UpdateScalars& scalars,
                  const FoundView& found) {
  const auto go = [&](const auto& rule) { run(stream, shard, scalars, found, rule); };
  const OptimizerConfig& o = scalars.rule;
  const auto mu = static_cast<float>(o.momentum), eps = static_cast<float>(o.eps);
  // 1 - beta is rounded once, as PyTorch does: 1.0f - 0.999f is off by 5e-5 of itself.
  switch (o.name) {
    case OptimizerName::kSgd:
      if (mu == 0.0f) return go(PlainSgd{});
      if (o.nesterov) return go(Sgd<true>{shard.state1, mu});
      return go(Sgd<false>{shard.state1, mu});
    case OptimizerName::kLars:
      return go(Lars{shard.state1, mu});
    case OptimizerName::kAdam:
    case OptimizerName::kAdamw:
      return go(Adam{shard.state1, shard.state2, static_cast<float>(1.0 - o.betas[0]),
                     static_cast<float>(o.betas[1]), static_cast<float>(1.0 - o.betas[1]), eps});
    case OptimizerName::kAdagrad:
      return go(Adagrad{shard.state1, eps});
    case OptimizerName::kRmsprop: {
      const auto alpha = static_cast<float>(o.alpha), rest = static_cast<float>(1.0 - o.alpha);
      if (mu == 0.0f) return go(RmsProp<false>{shard.state1, nullptr, alpha, rest, eps, 0.0f});
      return go(RmsProp<true>{shard.state1, shard.state2, alpha, rest, eps, mu});
    }
  }
}

}  // namespace trainer
