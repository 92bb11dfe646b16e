#pragma once

#include <cstddef>
#include <initializer_list>
#include <utility>

#include "comm/parallel.h"
#include "models/graph/value.h"

// Sweeps over the channels of rank-4 tensors, for kernels of GPUs. With all channels last a thread
// takes as many neighbouring channels as make an access of 16 bytes; every physical order is
// accepted. Only for files with RIDGELINE_HD bodies (parallel.h's rule of one compiler).
//
// A body names what it reads before it writes, so that the loads of several rows are in flight: a
// compiler that cannot tell what a store overlaps would wait for each. For N channels from c on,
//   of(c, Lanes<N>)             what it needs of them; asked once a piece
//   load(e, Lanes<N>)           the elements it reads at e
//   take(e, of, loaded, sums)   writes, and adds to sums[k], a Pack<float, N>
namespace models {

// The rows (n, h, w) of a tensor in pieces. Invariant: the extents alone decide them, so neither
// the GPU, nor how many channels a thread takes, decides the bits of sums.
struct ChannelRows {
  static constexpr std::int64_t kFewest = 4, kMost = 64;  // rows of a piece
  // Pieces of channels that fill a GPU: 8 to a thread, 4 rows in flight, are 2 MiB in flight.
  static constexpr std::int64_t kFill = std::int64_t{1} << 18;
  std::int64_t images, channels, cells, block, piece_rows = kMost;

  explicit ChannelRows(const Tensor& x)
      : images(x.shape[0]),
        channels(x.shape[1]),
        cells(x.shape[2] * x.shape[3]),
        block(x.channel_block) {
    while (piece_rows > kFewest && num_pieces() * channels < kFill) piece_rows /= 2;
  }
  RIDGELINE_HD std::int64_t rows() const { return images * cells; }
  RIDGELINE_HD std::int64_t num_pieces() const { return (rows() + piece_rows - 1) / piece_rows; }
  bool has_runs(int lanes) const { return block % lanes == 0 && channels % lanes == 0; }
  // Where the element of a row and a channel lies.
  RIDGELINE_HD std::int64_t element(std::int64_t row, std::int64_t c) const {
    if (block >= channels) return row * block + c;
    const std::int64_t n = row / cells, cell = row % cells, blocks = (channels + block - 1) / block;
    return ((n * blocks + c / block) * cells + cell) * block + c % block;
  }
};

struct NothingOfChannels {};

// A piece of N channels; its sums are fp32, and added in double to those of other pieces.
template <int N, int kSums, class Body>
struct ChannelPieces {
  using Loaded = decltype(std::declval<Body>().load(std::int64_t{}, comm::Lanes<N>{}));
  // Rows in flight. With more bytes in registers fewer threads would fit.
  static constexpr int kFlight = sizeof(Loaded) <= 2 * comm::kVectorBytes ? 4 : 2;
  ChannelRows rows;
  Body body;
  float* to;  // (piece, kSums, C)

  RIDGELINE_HD void operator()(std::int64_t i) const {
    const comm::Lanes<N> lanes;
    const std::int64_t runs = rows.channels / N, c = i % runs * N, piece = i / runs;
    const std::int64_t first = piece * rows.piece_rows, last = first + rows.piece_rows;
    const std::int64_t end = last < rows.rows() ? last : rows.rows();
    comm::Pack<float, N> sums[kSums > 0 ? kSums : 1] = {};
    const auto of = body.of(c, lanes);
    std::int64_t row = first;
    for (; row + kFlight <= end; row += kFlight) {
      Loaded loaded[kFlight];
      comm::each(comm::Lanes<kFlight>{},
                 [&](int f) { loaded[f] = body.load(rows.element(row + f, c), lanes); });
      comm::each(comm::Lanes<kFlight>{},
                 [&](int f) { body.take(rows.element(row + f, c), of, loaded[f], sums); });
    }
    for (; row < end; ++row) {
      const std::int64_t e = rows.element(row, c);
      body.take(e, of, body.load(e, lanes), sums);
    }
    for (int k = 0; k < kSums; ++k) {
      comm::store(to + (piece * kSums + k) * rows.channels + c, sums[k]);
    }
  }
};

template <int kSums, typename T, class Body>
void for_pieces(comm::StreamView stream, const ChannelRows& rows, const Body& body,
                std::initializer_list<const void*> pointers, float* to) {
  constexpr int kLanes = comm::kVectorLanes<T>;
  if (rows.has_runs(kLanes) && comm::vectors_fit(pointers)) {
    comm::parallel_for(stream, rows.num_pieces() * (rows.channels / kLanes),
                       ChannelPieces<kLanes, kSums, Body>{rows, body, to}, 16);
  } else {
    comm::parallel_for(stream, rows.num_pieces() * rows.channels,
                       ChannelPieces<1, kSums, Body>{rows, body, to}, 16);
  }
}

// Every element once. `pointers`: those that the body adds an element or a channel to.
template <typename T, class Body>
void channel_sweep(comm::StreamView stream, const ChannelRows& rows, const Body& body,
                   std::initializer_list<const void*> pointers) {
  for_pieces<0, T>(stream, rows, body, pointers, nullptr);
}

// The sum of from[row * columns] in the order of the rows, several of them in flight.
template <typename From>
RIDGELINE_HD double add_rows(const From* from, std::int64_t rows, std::int64_t columns) {
  constexpr int kFlight = 16;
  double sum = 0;
  std::int64_t row = 0;
  for (; row + kFlight <= rows; row += kFlight) {
    From some[kFlight];
    comm::each(comm::Lanes<kFlight>{}, [&](int f) { some[f] = from[(row + f) * columns]; });
    comm::each(comm::Lanes<kFlight>{}, [&](int f) { sum += some[f]; });
  }
  for (; row < rows; ++row) sum += from[row * columns];
  return sum;
}

// Row i of `to` adds kFan rows of `from`.
inline constexpr std::int64_t kFan = 64;
template <typename From>
struct AddRows {
  const From* from;
  double* to;
  std::int64_t rows, columns;  // of from
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t column = i % columns, first = i / columns * kFan;
    const std::int64_t count = first + kFan < rows ? kFan : rows - first;
    to[i] = add_rows(from + first * columns + column, count, columns);
  }
};

// The last rows of a channel, and what is made of its sums.
template <int kSums, typename From, class Finish>
struct FinishChannel {
  const From* from;  // (rows, kSums, C)
  std::int64_t rows, channels;
  Finish finish;
  RIDGELINE_HD void operator()(std::int64_t c) const {
    double sums[kSums];
    for (int k = 0; k < kSums; ++k) {
      sums[k] = add_rows(from + k * channels + c, rows, kSums * channels);
    }
    finish(c, sums);
  }
};

// Memory of the levels of a tree over `rows` rows: fp32 sums of pieces, then doubles of which one
// level is written while another is read.
struct SumLevels {
  std::int64_t pieces_bytes, first_bytes, second_bytes;
  SumLevels(std::int64_t rows, std::int64_t columns) {
    const auto bytes = [columns](std::int64_t count, std::int64_t size) {
      return comm::num_blocks(count * columns * size, 64) * 64;
    };
    const auto next = [](std::int64_t count) {
      return count > kFan ? comm::num_blocks(count, kFan) : 0;
    };
    pieces_bytes = bytes(rows, 4);
    first_bytes = bytes(next(rows), 8);
    second_bytes = bytes(next(next(rows)), 8);
  }
};

// Workspace of channel_sums, a multiple of 64 bytes.
inline std::int64_t channel_sums_bytes(const ChannelRows& rows, int num_sums) {
  const SumLevels levels(rows.num_pieces(), rows.channels * num_sums);
  return levels.pieces_bytes + levels.first_bytes + levels.second_bytes;
}

// finish(c, sums) for every channel with its kSums sums, in double, by a tree that the extents of
// the tensor fix. `pointers` as channel_sweep's; `workspace` is aligned to 64 bytes.
template <int kSums, typename T, class Body, class Finish>
void channel_sums(comm::StreamView stream, const ChannelRows& rows, const Body& body,
                  std::initializer_list<const void*> pointers, const Finish& finish,
                  std::byte* workspace) {
  const std::int64_t columns = rows.channels * kSums;
  std::int64_t count = rows.num_pieces();
  const SumLevels levels(count, columns);
  auto* pieces = reinterpret_cast<float*>(workspace);
  for_pieces<kSums, T>(stream, rows, body, pointers, pieces);
  if (count <= kFan) {
    return comm::parallel_for(
        stream, rows.channels,
        FinishChannel<kSums, float, Finish>{pieces, count, rows.channels, finish}, 16);
  }
  auto* from = reinterpret_cast<double*>(workspace + levels.pieces_bytes);
  auto* to = reinterpret_cast<double*>(workspace + levels.pieces_bytes + levels.first_bytes);
  std::int64_t next = comm::num_blocks(count, kFan);
  comm::parallel_for(stream, next * columns, AddRows<float>{pieces, from, count, columns}, 16);
  while (next > kFan) {
    count = std::exchange(next, comm::num_blocks(next, kFan));
    comm::parallel_for(stream, next * columns, AddRows<double>{from, to, count, columns}, 16);
    std::swap(from, to);
  }
  comm::parallel_for(stream, rows.channels,
                     FinishChannel<kSums, double, Finish>{from, next, rows.channels, finish}, 16);
}

}  // namespace models
