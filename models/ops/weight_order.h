#pragma once

#include <dnnl.hpp>

#include "comm/stream.h"
#include "models/graph/value.h"

namespace models::onednn {

// Moves a convolution's weights between the order of the parameter, plain (O, I, R, S) or tiles
// (Tensor::tile), and the blocked one that a primitive of oneDNN asked for: one pass over memory,
// where oneDNN's reorder takes up to 2 ns an element.
class WeightOrder {
 public:
  // `order` describes (O, I, R, S), or (G, O / G, I, R, S) with groups. `inputs` is I of the
  // parameter; where `order` has m times as many, each of its groups unites m neighbours of the
  // parameter's: m blocks on a diagonal, the rest of the order is never touched. `tile` is the
  // parameter's; above 1 REQUIRES: no groups, whole tiles.
  // Errors: kBug for an order that is not blocked.
  WeightOrder(const dnnl::memory::desc& order, std::int64_t inputs, int tile);

  // Nothing has to move: the parameter lies as `order` says.
  bool is_the_parameters() const;
  // Full tiles on both sides: a fast pass, that writes all of `ordered`.
  bool is_between_tiles() const { return parameter_tile_ > 1 && parameter_tile_ == side_; }
  // ordered[place of e] = scale[o] weight[e] for every element e; nothing else is written, so what
  // pads or lies off the diagonal stays 0 as it was made. `scale` is (O) or null: 1.
  void arrange(comm::StreamView stream, const float* weight, const float* scale,
               float* ordered) const;
  // weight[e] = ordered[place of e], or += where `accumulate`.
  void restore(comm::StreamView stream, const float* ordered, bool accumulate, float* weight) const;

  std::int64_t bytes() const { return bytes_; }  // of `ordered`, padding included

 private:
  // side x side channels, and where they begin in the blocked order. `row`: of the parameter's
  // outputs; the others count inside a group of the order.
  struct Tile {
    std::int64_t row, output, input, num_outputs, num_inputs, place;
  };
  Tile tile(std::int64_t index) const;
  // Of element (o, i, s) in the parameter, o and i counted over all groups and inside one.
  std::int64_t place(std::int64_t o, std::int64_t i, std::int64_t s) const;
  // move(weight, ordered, factor) for every element; instead of it whole(tile) for a tile of
  // 16 x 16 that is full and has its outputs innermost, and moved(tile) where the parameter lies in
  // tiles, too.
  template <class Move, class Whole, class Moved>
  void for_each(comm::StreamView stream, const float* scale, const Move& move, const Whole& whole,
                const Moved& moved) const;
  template <class Count, class Move>
  void move_tile(const Tile& tile, const float* scale, Count spatial, const Move& move) const;
  template <class Move>
  void move_output(std::int64_t output, const float* scale, const Move& move) const;

  dnnl::memory::desc order_;
  std::int64_t groups_ = 1, outputs_ = 0, inputs_ = 0;  // of the order; channels of one group
  std::int64_t plain_outputs_ = 0, plain_inputs_ = 0;   // of one of the parameter's groups
  std::int64_t parameter_tile_ = 1;
  std::int64_t spatial_ = 0;                            // R S
  std::int64_t bytes_ = 0;
  // Side of tiles of channels, each R S times behind each other: all orders of the AVX-512
  // primitives (16) and AVX2's (8) but those of very few channels, which have 0.
  std::int64_t side_ = 0;
  bool outputs_innermost_ = false;
  std::int64_t group_step_ = 0, output_tile_ = 0, input_tile_ = 0;  // from one to the next
};

}  // namespace models::onednn
