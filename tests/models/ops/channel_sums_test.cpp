#include "models/ops/channel_sums.h"

#include <gtest/gtest.h>

#include "comm/bf16.h"
#include "comm/buffer.h"
#include "tests/models/ops/op_fixture.h"

namespace models::testing {
namespace {

// The sum of a channel; writes what it added.
template <typename T>
struct Copied {
  const T* x;
  T* y;
  template <int N>
  NothingOfChannels of(std::int64_t, comm::Lanes<N>) const {
    return {};
  }
  template <int N>
  comm::Pack<T, N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    return comm::load(x + e, lanes);
  }
  template <int N>
  void take(std::int64_t e, NothingOfChannels, const comm::Pack<T, N>& values,
            comm::Pack<float, N>* sums) const {
    comm::each(comm::Lanes<N>{}, [&](int k) { sums[0][k] += values[k]; });
    comm::store(y + e, values);
  }
};

struct Keep {
  double* to;
  void operator()(std::int64_t c, const double* sums) const { to[c] = sums[0]; }
};

Tensor tensor_of(const Shape& shape, int block) { return {nullptr, Type::kF32, shape, block}; }

// The sums of `values`, laid `offset` elements behind an address where vectors may begin.
template <typename T>
std::vector<double> sums_of(const ChannelRows& rows, const std::vector<float>& values, int offset) {
  const comm::Device device;
  comm::Stream stream(device, 2);
  const std::size_t bytes = (values.size() + 8) * sizeof(T);
  comm::Buffer from(device, bytes), to(device, bytes);
  comm::Buffer workspace(device, static_cast<std::size_t>(channel_sums_bytes(rows, 1)));
  T* const x = reinterpret_cast<T*>(from.bytes().data()) + offset;
  T* const y = reinterpret_cast<T*>(to.bytes().data()) + offset;
  std::copy(values.begin(), values.end(), x);
  std::vector<double> sums(static_cast<std::size_t>(rows.channels));
  channel_sums<1, T>(stream, rows, Copied<T>{x, y}, {x, y}, Keep{sums.data()},
                     workspace.bytes().data());
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(float{y[i]}, float{x[i]}) << i;
  return sums;
}

template <typename T>
void expect_sums(const Shape& shape, int block) {
  SCOPED_TRACE(to_string(shape) + " in blocks of " + std::to_string(block));
  const ChannelRows rows(tensor_of(shape, block));
  const auto values = testing::values("x", shape.count());
  const auto sums = sums_of<T>(rows, values, 0);
  for (std::int64_t c = 0; c < rows.channels; ++c) {
    double expected = 0;
    for (std::int64_t row = 0; row < rows.rows(); ++row) {
      expected += T(values[static_cast<std::size_t>(rows.element(row, c))]);
    }
    EXPECT_NEAR(sums[c], expected, 1e-7 * static_cast<double>(rows.rows())) << c;
  }
  EXPECT_EQ(sums_of<T>(rows, values, 1), sums);  // to the bit, though one by one
}

// A rest of rows; one level of a tree, two and three.
TEST(ChannelSums, AreThoseOfEveryChannelInAnyOrder) {
  for (const Shape& shape : {Shape{1, 16, 1, 3}, Shape{2, 16, 9, 11}, Shape{3, 24, 50, 40},
                             Shape{2, 8, 100, 100}, Shape{1, 5, 7, 9}}) {
    for (int block : {1, static_cast<int>(shape[1])}) {
      expect_sums<float>(shape, block);
      expect_sums<comm::Bf16>(shape, block);
    }
  }
  expect_sums<comm::Bf16>({2, 16, 100, 100}, 8);
}

// Small maps are cut finely so that they fill a GPU, large ones as coarsely as 64 rows.
TEST(ChannelSums, PiecesFollowTheExtents) {
  const auto piece_rows = [](const Shape& shape) {
    return ChannelRows(tensor_of(shape, static_cast<int>(shape[1]))).piece_rows;
  };
  EXPECT_EQ(piece_rows({1, 256, 25, 25}), 4);
  EXPECT_EQ(piece_rows({1, 256, 100, 100}), 8);
  EXPECT_EQ(piece_rows({32, 256, 100, 100}), 64);
}

}  // namespace
}  // namespace models::testing
