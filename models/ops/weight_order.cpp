#include "models/ops/weight_order.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#include "comm/parallel.h"

namespace models::onednn {
namespace {

constexpr std::int64_t kTile = 16;
constexpr std::int64_t kArea = kTile * kTile;
using Vector = float __attribute__((vector_size(kTile * sizeof(float))));

Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
void store(const Vector& v, float* to) { std::memcpy(to, &v, sizeof(v)); }

// Exchanges the upper half of a with the lower half of b in every group of 2 kDistance lanes.
template <int kDistance, std::size_t... kLane>
void exchange(Vector& a, Vector& b, std::index_sequence<kLane...>) {
  const Vector low = __builtin_shufflevector(
      a, b, static_cast<int>(kLane & kDistance ? kTile + kLane - kDistance : kLane)...);
  b = __builtin_shufflevector(
      a, b, static_cast<int>(kLane & kDistance ? kTile + kLane : kLane + kDistance)...);
  a = low;
}
template <int kDistance>
void exchange_all(Vector (&rows)[kTile]) {
  for (int r = 0; r < kTile; ++r) {
    if (r & kDistance) continue;
    exchange<kDistance>(rows[r], rows[r + kDistance], std::make_index_sequence<kTile>{});
  }
}
void transpose(Vector (&rows)[kTile]) {
  exchange_all<8>(rows);
  exchange_all<4>(rows);
  exchange_all<2>(rows);
  exchange_all<1>(rows);
}

// Where an element lies in a blocked order, by the formula of dnnl_blocking_desc_t.
std::int64_t place_of(const dnnl_memory_desc_t& order, std::array<std::int64_t, 5> position) {
  const auto& blocking = order.format_desc.blocking;
  std::int64_t offset = order.offset0, step = 1;
  for (int b = blocking.inner_nblks - 1; b >= 0; --b) {
    std::int64_t& p = position[static_cast<std::size_t>(blocking.inner_idxs[b])];
    offset += p % blocking.inner_blks[b] * step;
    p /= blocking.inner_blks[b];
    step *= blocking.inner_blks[b];
  }
  for (int d = 0; d < order.ndims; ++d) {
    offset += position[static_cast<std::size_t>(d)] * blocking.strides[d];
  }
  return offset;
}

// Column i R S + s of a tile, which lies at i 16 + s 256.
struct Column {
  std::int64_t i = 0, s = 0;
  void next(std::int64_t spatial) {
    if (++s < spatial) return;
    s = 0;
    ++i;
  }
  std::int64_t place() const { return i * kTile + s * kArea; }
};

std::int64_t num_tiles(std::int64_t n, std::int64_t side) { return (n + side - 1) / side; }

}  // namespace

WeightOrder::WeightOrder(const dnnl::memory::desc& order, std::int64_t inputs, int tile)
    : order_(order),
      plain_inputs_(inputs),
      parameter_tile_(tile),
      bytes_(static_cast<std::int64_t>(order.get_size())) {
  const dnnl_memory_desc_t& d = order_.data;
  REQUIRE(d.format_kind == dnnl_blocked && (d.ndims == 4 || d.ndims == 5), "{} dimensions",
          d.ndims);
  const int first = d.ndims - 4;  // of the output channels inside a group
  if (first == 1) groups_ = d.dims[0];
  outputs_ = d.dims[first];
  inputs_ = d.dims[first + 1];
  REQUIRE(inputs > 0 && inputs_ % inputs == 0 && outputs_ % (inputs_ / inputs) == 0,
          "{} inputs in an order of {} x {}", inputs, outputs_, inputs_);
  plain_outputs_ = outputs_ / (inputs_ / inputs);
  REQUIRE(tile == 1 || (tile == kTile && groups_ == 1 && inputs == inputs_ &&
                        outputs_ % tile == 0 && inputs % tile == 0),
          "tiles of {} in {} groups of {} x {}", tile, groups_, outputs_, inputs_);
  spatial_ = d.dims[first + 2] * d.dims[first + 3];
  const auto& blocking = d.format_desc.blocking;
  const std::int64_t side = blocking.inner_blks[0], area = side * side;
  const bool tiled = blocking.inner_nblks == 2 && blocking.inner_blks[1] == side &&
                     blocking.inner_idxs[0] + blocking.inner_idxs[1] == 2 * first + 1 &&
                     std::min(blocking.inner_idxs[0], blocking.inner_idxs[1]) == first &&
                     blocking.strides[first + 3] == area &&
                     blocking.strides[first + 2] == d.dims[first + 3] * area;
  if (!tiled) return;
  side_ = side;
  outputs_innermost_ = blocking.inner_idxs[1] == first;
  group_step_ = first == 1 ? blocking.strides[0] : 0;
  output_tile_ = blocking.strides[first];
  input_tile_ = blocking.strides[first + 1];
}

bool WeightOrder::is_the_parameters() const {
  const std::int64_t area = parameter_tile_ * parameter_tile_ * spatial_;
  return parameter_tile_ > 1 && side_ == parameter_tile_ && outputs_innermost_ &&
         input_tile_ == area && output_tile_ == inputs_ / parameter_tile_ * area;
}

std::int64_t WeightOrder::place(std::int64_t o, std::int64_t i, std::int64_t s) const {
  if (parameter_tile_ == 1) return (o * plain_inputs_ + i) * spatial_ + s;
  const std::int64_t tiles = o / kTile * (plain_inputs_ / kTile) + i / kTile;
  return (tiles * spatial_ + s) * kArea + i % kTile * kTile + o % kTile;
}

WeightOrder::Tile WeightOrder::tile(std::int64_t index) const {
  const std::int64_t i = index % num_tiles(inputs_, side_),
                     rest = index / num_tiles(inputs_, side_);
  const std::int64_t o = rest % num_tiles(outputs_, side_), g = rest / num_tiles(outputs_, side_);
  return {g * outputs_ + o * side_,
          o * side_,
          i * side_,
          std::min(side_, outputs_ - o * side_),
          std::min(side_, inputs_ - i * side_),
          g * group_step_ + o * output_tile_ + i * input_tile_};
}

template <class Move, class Whole, class Moved>
void WeightOrder::for_each(comm::StreamView stream, const float* scale, const Move& move,
                           const Whole& whole, const Moved& moved) const {
  const bool between_tiles = is_between_tiles();
  if (side_ == 0 || (parameter_tile_ > 1 && !between_tiles)) {
    return comm::parallel_for(
        stream, groups_ * outputs_, [&](std::int64_t o) { move_output(o, scale, move); }, 16);
  }
  const auto body = [&](std::int64_t index) {
    const Tile t = tile(index);
    if (between_tiles) return moved(t);
    const bool full = t.num_outputs == kTile && t.num_inputs == kTile &&  // one of AVX2 never is
                      plain_inputs_ == inputs_;
    if (outputs_innermost_ && full) return whole(t);
    if (spatial_ == 9) {  // a count that the compiler knows
      return move_tile(t, scale, std::integral_constant<std::int64_t, 9>{}, move);
    }
    move_tile(t, scale, spatial_, move);
  };
  comm::parallel_for(stream, groups_ * num_tiles(outputs_, side_) * num_tiles(inputs_, side_), body,
                     8);
}

template <class Count, class Move>
void WeightOrder::move_tile(const Tile& t, const float* scale, Count spatial,
                            const Move& move) const {
  const std::int64_t output_step = outputs_innermost_ ? 1 : side_;
  const std::int64_t input_step = outputs_innermost_ ? side_ : 1;
  const std::int64_t area = side_ * side_;
  for (std::int64_t o = 0; o < t.num_outputs; ++o) {
    const float factor = scale ? scale[t.row + o] : 1.0f;
    const std::int64_t first = (t.output + o) / plain_outputs_ * plain_inputs_;  // its inputs
    const std::int64_t begin = std::max(first, t.input);
    const std::int64_t count = std::min(first + plain_inputs_, t.input + t.num_inputs) - begin;
    const std::int64_t plain = ((t.row + o) * plain_inputs_ + begin - first) * spatial;
    const std::int64_t ordered = t.place + o * output_step + (begin - t.input) * input_step;
    if (spatial == 1) {
      const auto sweep = [&](auto step) {
#pragma GCC ivdep
        for (std::int64_t i = 0; i < count; ++i) move(plain + i, ordered + i * step, factor);
      };
      outputs_innermost_ ? sweep(side_) : sweep(std::integral_constant<std::int64_t, 1>{});
      continue;
    }
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t s = 0; s < spatial; ++s) {
        move(plain + i * spatial + s, ordered + i * input_step + s * area, factor);
      }
    }
  }
}

template <class Move>
void WeightOrder::move_output(std::int64_t o, const float* scale, const Move& move) const {
  const dnnl_memory_desc_t& d = order_.data;
  const std::int64_t columns = d.dims[d.ndims - 1], inner = plain_inputs_ * spatial_;
  const std::int64_t g = o / outputs_, in_group = o % outputs_;
  const std::int64_t first = in_group / plain_outputs_ * plain_inputs_;
  for (std::int64_t e = 0; e < inner; ++e) {
    const std::int64_t i = first + e / spatial_, r = e % spatial_ / columns, s = e % columns;
    const std::int64_t ordered =
        d.ndims == 4 ? place_of(d, {in_group, i, r, s}) : place_of(d, {g, in_group, i, r, s});
    move(place(o, e / spatial_, e % spatial_), ordered, scale ? scale[o] : 1.0f);
  }
}

// A full tile is 16 rows (outputs) of 16 R S elements, of which 16 columns at a time are
// transposed. Between tiles one position of the kernel at a time moves, transposed or not.
void WeightOrder::arrange(comm::StreamView stream, const float* weight, const float* scale,
                          float* ordered) const {
  const std::int64_t spatial = spatial_, row = inputs_ * spatial_;
  const bool transposes = !outputs_innermost_;
  for_each(
      stream, scale,
      [=](std::int64_t from, std::int64_t to, float factor) {
        ordered[to] = factor * weight[from];
      },
      [=](const Tile& t) {
        const float* first = weight + t.row * row + t.input * spatial;
        Column column;
        for (std::int64_t begin = 0; begin < kTile * spatial; begin += kTile) {
          Vector rows[kTile];
          for (int o = 0; o < kTile; ++o) {
            rows[o] = load(first + o * row + begin) * (scale ? scale[t.row + o] : 1.0f);
          }
          transpose(rows);
          for (int c = 0; c < kTile; ++c, column.next(spatial)) {
            store(rows[c], ordered + t.place + column.place());
          }
        }
      },
      [=, this](const Tile& t) {
        const Vector factor = scale ? load(scale + t.row) : Vector{} + 1.0f;
        for (std::int64_t s = 0; s < spatial; ++s) {
          const float* from = weight + place(t.row, t.input, s);
          float* to = ordered + t.place + s * kArea;
          Vector rows[kTile];
          for (int i = 0; i < kTile; ++i) rows[i] = load(from + i * kTile) * factor;
          if (transposes) transpose(rows);
          for (int i = 0; i < kTile; ++i) store(rows[i], to + i * kTile);
        }
      });
}

void WeightOrder::restore(comm::StreamView stream, const float* ordered, bool accumulate,
                          float* weight) const {
  const std::int64_t spatial = spatial_, row = inputs_ * spatial_;
  const bool transposes = !outputs_innermost_;
  for_each(
      stream, nullptr,
      [=](std::int64_t to, std::int64_t from, float) {
        weight[to] = accumulate ? weight[to] + ordered[from] : ordered[from];
      },
      [=](const Tile& t) {
        float* first = weight + t.row * row + t.input * spatial;
        Column column;
        for (std::int64_t begin = 0; begin < kTile * spatial; begin += kTile) {
          Vector rows[kTile];
          for (int c = 0; c < kTile; ++c, column.next(spatial)) {
            rows[c] = load(ordered + t.place + column.place());
          }
          transpose(rows);
          for (int o = 0; o < kTile; ++o) {
            float* to = first + o * row + begin;
            store(accumulate ? load(to) + rows[o] : rows[o], to);
          }
        }
      },
      [=, this](const Tile& t) {
        for (std::int64_t s = 0; s < spatial; ++s) {
          const float* from = ordered + t.place + s * kArea;
          float* to = weight + place(t.row, t.input, s);
          Vector rows[kTile];
          for (int i = 0; i < kTile; ++i) rows[i] = load(from + i * kTile);
          if (transposes) transpose(rows);
          for (int i = 0; i < kTile; ++i) {
            store(accumulate ? load(to + i * kTile) + rows[i] : rows[i], to + i * kTile);
          }
        }
      });
}

}  // namespace models::onednn
