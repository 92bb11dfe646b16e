#include "models/graph/reorder.h"

#include <gtest/gtest.h>

#include <numeric>

#include "comm/stream.h"

namespace models::testing {
namespace {

struct Memory {
  std::vector<float> data;
  Tensor tensor;
  Memory(const Shape& shape, int block, float fill) {
    tensor = {nullptr, Type::kF32, shape, block};
    data.assign(static_cast<std::size_t>(tensor.physical_count()), fill);
    tensor.data = reinterpret_cast<std::byte*>(data.data());
  }
  float& at(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
    const Shape& s = tensor.shape;
    const std::int64_t b = tensor.channel_block, blocks = (s[1] + b - 1) / b;
    return data[(((n * blocks + c / b) * s[2] + h) * s[3] + w) * b + c % b];
  }
};

class Reorder : public ::testing::TestWithParam<int> {
 protected:
  comm::Stream stream_{comm::Device{}, 2};
};

TEST_P(Reorder, CopiesBetweenAnyTwoOrders) {
  const Shape shape = {2, 20, 3, 5};
  for (int to : {1, 8, 16, 20}) {
    SCOPED_TRACE(to);
    Memory source(shape, GetParam(), 0.0f), target(shape, to, 7.0f);
    float next = 1;
    for (int n = 0; n < 2; ++n)
      for (int c = 0; c < 20; ++c)
        for (int h = 0; h < 3; ++h)
          for (int w = 0; w < 5; ++w) source.at(n, c, h, w) = next++;
    reorder(stream_.view(), source.tensor, target.tensor, false);
    double sum = 0;
    for (float v : target.data) sum += v;
    EXPECT_EQ(sum, 600.0 * 601 / 2);  // the padding is zero
    for (int n = 0; n < 2; ++n)
      for (int c = 0; c < 20; ++c)
        for (int h = 0; h < 3; ++h)
          for (int w = 0; w < 5; ++w) {
            ASSERT_EQ(target.at(n, c, h, w), source.at(n, c, h, w));
            target.at(n, c, h, w) = 100;
          }
    reorder(stream_.view(), source.tensor, target.tensor, true);
    EXPECT_EQ(target.at(1, 19, 2, 4), 700.0f);
    EXPECT_EQ(target.at(0, 0, 0, 0), 101.0f);
  }
}

TEST_P(Reorder, ShapesMustAgree) {
  Memory a({1, 8, 2, 2}, GetParam(), 0.0f), b({1, 8, 2, 3}, 1, 0.0f);
  EXPECT_THROW(reorder(stream_.view(), a.tensor, b.tensor, false), comm::Error);
}

INSTANTIATE_TEST_SUITE_P(Blocks, Reorder, ::testing::Values(1, 8, 16, 20));

}  // namespace
}  // namespace models::testing
