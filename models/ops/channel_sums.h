#pragma once

#include "comm/parallel.h"
#include "models/graph/value.h"

// Sweeps over the channels of rank-4 tensors, for kernels of GPUs: neighbouring threads take
// neighbouring channels, which lie side by side in memory with all channels last. Every physical
// order is accepted. Only for files with RIDGELINE_HD bodies (parallel.h's rule of one compiler).
namespace models {

// The elements of each channel in pieces of up to kRows, numbered channels first. No piece depends
// on the GPU, so neither do the bits of sums.
struct ChannelRows {
  static constexpr std::int64_t kRows = 64;  // of (n, h, w): enough pieces to fill a GPU
  std::int64_t images, channels, cells, block;

  explicit ChannelRows(const Tensor& x)
      : images(x.shape[0]),
        channels(x.shape[1]),
        cells(x.shape[2] * x.shape[3]),
        block(x.channel_block) {}
  RIDGELINE_HD std::int64_t rows() const { return images * cells; }
  RIDGELINE_HD std::int64_t count() const {  // of pieces
    return (rows() + kRows - 1) / kRows * channels;
  }
  RIDGELINE_HD std::int64_t channel(std::int64_t piece) const { return piece % channels; }
  // visit(element) for the physical elements of a piece.
  template <class Visit>
  RIDGELINE_HD void visit(std::int64_t piece, const Visit& visit) const {
    const std::int64_t c = piece % channels, blocks = (channels + block - 1) / block;
    const std::int64_t first = piece / channels * kRows;
    const std::int64_t end = first + kRows < rows() ? first + kRows : rows();
    std::int64_t n = first / cells, cell = first % cells;
    for (std::int64_t row = first; row < end; ++row) {
      visit(((n * blocks + c / block) * cells + cell) * block + c % block);
      if (++cell == cells) {
        cell = 0;
        ++n;
      }
    }
  }
};

// sums[k] of every piece: body(element, channel, sums) adds to them, and may write.
template <int kSums, class Body>
struct PieceSums {
  ChannelRows rows;
  Body body;
  double* to;  // (piece, kSums)
  RIDGELINE_HD void operator()(std::int64_t piece) const {
    double sums[kSums] = {};
    const std::int64_t c = rows.channel(piece);
    rows.visit(piece, [&](std::int64_t element) { body(element, c, sums); });
    for (int k = 0; k < kSums; ++k) to[piece * kSums + k] = sums[k];
  }
};

// Row i of `to` adds kFan rows of `from`.
struct AddRows {
  static constexpr std::int64_t kFan = 64;
  const double* from;
  double* to;
  std::int64_t rows, columns;  // of from
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t column = i % columns, first = i / columns * kFan;
    const std::int64_t end = first + kFan < rows ? first + kFan : rows;
    double sum = 0;
    for (std::int64_t row = first; row < end; ++row) sum += from[row * columns + column];
    to[i] = sum;
  }
};

// Workspace of channel_sums, a multiple of 64 bytes.
inline std::int64_t channel_sums_bytes(const ChannelRows& rows, int num_sums) {
  const std::int64_t pieces = rows.count() / rows.channels;
  const std::int64_t sums = pieces + comm::num_blocks(pieces, AddRows::kFan);
  return comm::num_blocks(sums * rows.channels * num_sums, 8) * 64;
}

// kSums sums over each channel, in double, by a tree that the extents of the tensor fix. Returns
// them, (C, kSums), inside the workspace.
template <int kSums, class Body>
const double* channel_sums(comm::StreamView stream, const ChannelRows& rows, const Body& body,
                           std::byte* workspace) {
  auto* from = reinterpret_cast<double*>(workspace);
  comm::parallel_for(stream, rows.count(), PieceSums<kSums, Body>{rows, body, from}, 16);
  const std::int64_t columns = rows.channels * kSums;
  std::int64_t num_rows = rows.count() / rows.channels;
  double* to = from + num_rows * columns;
  while (num_rows > 1) {
    const std::int64_t next = comm::num_blocks(num_rows, AddRows::kFan);
    comm::parallel_for(stream, next * columns, AddRows{from, to, num_rows, columns}, 16);
    std::swap(from, to);
    num_rows = next;
  }
  return from;
}

}  // namespace models
