#pragma once

#include <vector>

#include "trainer/data/transform.h"

namespace trainer {

// One axis of the content: where its pixels lie on the scaled axis, and the source it is cut from.
struct Axis {
  int content = 0;  // pixels to make
  int offset = 0;   // of the first one on the scaled axis
  bool flip = false;
  int scaled = 0;     // length of the scaled axis
  int source = 0;     // pixels there are
  double extent = 0;  // what the scaled axis covers, in source pixels: <= source
  int position(int i) const { return offset + (flip ? content - 1 - i : i); }
};

// Of an image each of whose `source` pixels stands for `shrink` of the original's.
Axis axis_of(const Geometry& geometry, bool horizontal, int source, int shrink);

// The filter of one axis: pixel i is the sum over k < num of weight[i num + k] source[start[i] +
// k]. Weights beyond the filter are 0, and start + num may pass the end of the source.
struct Taps {
  int num = 0;
  std::vector<int> start;
  std::vector<float> weight;
};

// w(t) = max(0, 1 - |t| / factor), normalised to sum 1, factor = max(1, source / scaled)
Taps triangle_taps(const Axis& axis);

// Two neighbours of the half-pixel centre, clamped at the borders.
Taps bilinear_taps(const Axis& axis);

// The pixel at the same place, weight 1. REQUIRES: source == scaled.
Taps copying_taps(const Axis& axis);

}  // namespace trainer
