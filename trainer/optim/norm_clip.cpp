#include "trainer/optim/norm_clip.h"

#include <algorithm>

#include "trainer/optim/host_mirror.h"

namespace trainer {
namespace {

struct Range {
  std::int32_t begin = 0, end = 0;
};

struct SquareOfTensor {
  const Range* ranges;
  const BlockSums* sums;
  double* squares;
  RIDGELINE_HD void operator()(std::int64_t s) const {
    double sum = 0;
    for (std::int32_t b = ranges[s].begin; b < ranges[s].end; ++b) sum += sums[b].gradient;
    squares[s] = sum;
  }
};

struct SetFactor {
  const double* squares;
  std::int64_t num_segments;
  double max_norm;
  StepScalars* step;
  RIDGELINE_HD void operator()(std::int64_t) const {
    double sum = 0;
    for (std::int64_t s = 0; s < num_segments; ++s) sum += squares[s];
    step->clip = clip_factor(max_norm, sum);
  }
};

}  // namespace

NormClip::NormClip(comm::StreamView stream, double max_norm,
                   const std::vector<std::int32_t>& segment_of_block, std::size_t num_segments)
    : max_norm_(max_norm),
      num_segments_(static_cast<std::int64_t>(num_segments)),
      ranges_(stream.device(), num_segments * sizeof(Range), comm::Fill::kZero),
      squares_(stream.device(), num_segments * sizeof(double), comm::Fill::kZero) {
  const HostMirror host(ranges_);
  const std::span<Range> ranges = host.as<Range>();
  std::ranges::fill(ranges, Range{});
  for (std::int32_t b = 0; b < static_cast<std::int32_t>(segment_of_block.size()); ++b) {
    const std::int32_t s = segment_of_block[static_cast<std::size_t>(b)];
    if (s < 0) continue;
    Range& range = ranges[static_cast<std::size_t>(s)];
    if (range.end == 0) range.begin = b;
    REQUIRE(range.end == 0 || range.end == b, "tensor {} is in pieces", s);
    range.end = b + 1;
  }
  host.store(stream);
  stream.synchronize();
}

void NormClip::launch(comm::StreamView stream, std::span<const BlockSums> sums,
                      StepScalars* step) const {
  double* const squares = squares_.as<double>().data();
  comm::parallel_for(stream, num_segments_,
                     SquareOfTensor{ranges_.as<Range>().data(), sums.data(), squares});
  comm::parallel_for(stream, 1, SetFactor{squares, num_segments_, max_norm_, step});
}

}  // namespace trainer
