#include "models/ops/weight_packing.h"

#include "comm/parallel.h"

namespace models {
namespace {

constexpr std::int64_t kPieceItems = 256;  // work of one row: neighbours share its fields
constexpr std::int32_t kTaps = 9;          // of one input in an item, all in flight at once
constexpr std::int32_t kInputs = 8;        // of one tap in an item: 16 bytes of bf16

std::int32_t narrow(std::int64_t value) {
  REQUIRE(value >= 0 && value < (std::int64_t{1} << 31), "{} elements of one weight", value);
  return static_cast<std::int32_t>(value);
}

}  // namespace

// A job as a device reads it. Its items: `weight_items` of the weight, then one an output.
struct WeightPacking::Row {
  const float* weight;
  void* packed;
  const float *gamma, *beta, *mean, *variance, *bias;  // null as in the source
  float *scale, *shift;
  comm::Bf16* narrow_shift;
  float eps;
  bool is_narrow;                      // packed as bf16
  std::int32_t outputs, inputs, taps;  // one tap: nothing moves
  std::int32_t parts;                  // items of an output
  std::int32_t weight_items, first_piece;

  explicit Row(const PackingJob& job)
      : weight(job.source.weight.f32()),
        packed(job.weight),
        gamma(job.source.gamma.f32()),
        beta(job.source.beta.f32()),
        mean(job.source.mean.f32()),
        variance(job.source.variance.f32()),
        bias(job.source.bias.f32()),
        scale(job.scale),
        shift(job.shift),
        narrow_shift(job.narrow_shift),
        eps(job.source.eps),
        is_narrow(job.order.type == Type::kBF16) {
    const Shape& shape = job.source.weight.shape;
    outputs = narrow(shape[0]);
    inputs = narrow(shape[1]);
    taps = narrow(shape[2] * shape[3]);
    if (!job.order.channels_last) {
      inputs = narrow(shape[1] * shape[2] * shape[3]);
      taps = 1;
    }
    parts = taps == 1 ? (inputs + kInputs - 1) / kInputs : (taps + kTaps - 1) / kTaps * inputs;
    weight_items = packed ? narrow(std::int64_t{outputs} * parts) : 0;
    narrow(shape.count());
  }
  std::int64_t num_items() const {
    return std::int64_t{weight_items} + (scale || narrow_shift ? outputs : 0);
  }

  RIDGELINE_HD float factor(std::int32_t o) const {
    return gamma ? folding_scale(gamma[o], variance[o], eps) : 1.0f;
  }
};

namespace {

struct PackItem {
  const WeightPacking::Row* rows;
  const std::int32_t* row_of_piece;
  std::int32_t first_piece;  // of the group

  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int32_t piece = first_piece + static_cast<std::int32_t>(i / kPieceItems);
    const WeightPacking::Row& row = rows[row_of_piece[piece]];
    const std::int32_t item = (piece - row.first_piece) * static_cast<std::int32_t>(kPieceItems) +
                              static_cast<std::int32_t>(i % kPieceItems);
    if (item >= row.weight_items) return give_shift(row, item - row.weight_items);
    if (row.is_narrow) return give_weight(row, item, static_cast<comm::Bf16*>(row.packed));
    give_weight(row, item, static_cast<float*>(row.packed));
  }

  RIDGELINE_HD static void give_shift(const WeightPacking::Row& row, std::int32_t o) {
    if (o >= row.outputs || !(row.scale || row.narrow_shift)) return;
    float shift = row.bias ? row.bias[o] : 0.0f;
    if (row.gamma) {
      const float s = row.factor(o);
      shift = row.beta[o] + s * (shift - row.mean[o]);
      row.scale[o] = s;
      row.shift[o] = shift;
    }
    if (row.narrow_shift) row.narrow_shift[o] = shift;
  }

  template <typename T>
  RIDGELINE_HD static void give_weight(const WeightPacking::Row& row, std::int32_t item, T* to) {
    const std::int32_t o = item / row.parts, part = item - o * row.parts;
    const float s = row.factor(o);
    if (row.taps == 1) {
      const std::int32_t first = part * kInputs, at = o * row.inputs + first;
      return give_inputs(row.weight + at, to + at, s, row.inputs, row.inputs - first);
    }
    const std::int32_t chunk = part / row.inputs, input = part - chunk * row.inputs;
    const std::int32_t tap = chunk * kTaps;
    give_taps(row.weight + (o * row.inputs + input) * row.taps + tap,
              to + (o * row.taps + tap) * row.inputs + input, s, row.inputs, row.taps - tap);
  }
  // to[k] = s from[k] for k < kInputs that are `left`
  template <typename T>
  RIDGELINE_HD static void give_inputs(const float* from, T* to, float s, std::int32_t inputs,
                                       std::int32_t left) {
    if (inputs % kInputs == 0) {
      const auto w = comm::load(from, comm::Lanes<kInputs>{});
      comm::Pack<float, kInputs> scaled;
      for (int k = 0; k < kInputs; ++k) scaled[k] = s * w[k];
      return comm::store(to, scaled);
    }
    for (int k = 0; k < kInputs; ++k) {
      if (k < left) to[k] = s * from[k];
    }
  }
  // to[k inputs] = s from[k] for k < kTaps that are `left`
  template <typename T>
  RIDGELINE_HD static void give_taps(const float* from, T* to, float s, std::int32_t inputs,
                                     std::int32_t left) {
    float w[kTaps];
    for (int k = 0; k < kTaps; ++k) w[k] = k < left ? from[k] : 0.0f;
    for (int k = 0; k < kTaps; ++k) {
      if (k < left) to[k * inputs] = s * w[k];
    }
  }
};

}  // namespace

int WeightPacking::add(const PackingJob& job, const std::set<int>& buckets) {
  REQUIRE(!uploaded_, "a weight comes after others were packed");
  const auto [found, is_new] = group_of_.try_emplace(buckets, static_cast<int>(groups_.size()));
  if (is_new) groups_.emplace_back();
  groups_[found->second].jobs.push_back(job);
  return found->second;
}

void WeightPacking::pack(int group, std::int64_t version) {
  Group& g = groups_[group];
  if (g.version == version) return;
  if (!uploaded_) upload();
  g.version = version;
  comm::parallel_for(stream_, g.num_pieces * kPieceItems,
                     PackItem{reinterpret_cast<const Row*>(rows_.bytes().data()),
                              row_of_piece_.as<const std::int32_t>().data(),
                              static_cast<std::int32_t>(g.first_piece)});
}

void WeightPacking::upload() {
  std::vector<Row> rows;
  std::vector<std::int32_t> row_of_piece;
  for (Group& group : groups_) {
    group.first_piece = narrow(static_cast<std::int64_t>(row_of_piece.size()));
    for (const PackingJob& job : group.jobs) {
      Row& row = rows.emplace_back(job);
      row.first_piece = static_cast<std::int32_t>(row_of_piece.size());
      row_of_piece.insert(row_of_piece.end(), comm::num_blocks(row.num_items(), kPieceItems),
                          static_cast<std::int32_t>(rows.size()) - 1);
    }
    group.num_pieces = static_cast<std::int64_t>(row_of_piece.size()) - group.first_piece;
    group.jobs.clear();
  }
  const auto send = [this](const auto& values) {
    const auto bytes = std::as_bytes(std::span(values));
    comm::Buffer buffer(stream_.device(), bytes.size());
    comm::copy_bytes(stream_, buffer.bytes(), bytes);
    return buffer;
  };
  rows_ = send(rows);
  row_of_piece_ = send(row_of_piece);
  stream_.synchronize();
  uploaded_ = true;
}

}  // namespace models
