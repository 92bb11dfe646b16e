#include "models/ops/weight_order.h"

#include <gtest/gtest.h>

#include "models/graph/weight_tiles.h"
#include "models/ops/onednn.h"

namespace models::onednn {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

struct Order {
  memory::dims dims;  // (O, I, R, S) or (G, O / G, I, R, S)
  Tag tag;
  std::int64_t united = 1;  // of the parameter's groups in one of these
};

class WeightOrders : public ::testing::TestWithParam<Order> {
 protected:
  WeightOrders() {
    for (std::int64_t d : GetParam().dims) count_ *= d;
    const std::size_t last = GetParam().dims.size() - 1;
    count_ /= GetParam().united;
    inputs_ = GetParam().dims[last - 2] / GetParam().united;
    for (std::int64_t i = 0; i < count_; ++i) plain_.push_back(static_cast<float>(i % 1013) - 500);
    const std::size_t first = GetParam().dims.size() - 4;
    outputs_ = GetParam().dims[first] * (first == 1 ? GetParam().dims[0] : 1);
    for (std::int64_t o = 0; o < outputs_; ++o) scale_.push_back(0.25f * (o % 7 + 1));
  }
  memory::desc desc(Tag tag) const { return {GetParam().dims, memory::data_type::f32, tag}; }
  std::vector<float> scaled() const {
    std::vector<float> all = plain_;
    for (std::int64_t i = 0; i < count_; ++i) all[i] *= scale_[i / (count_ / outputs_)];
    return all;
  }
  // (O, united I, R, S) with zeros off the diagonal.
  std::vector<float> expanded(const std::vector<float>& plain) const {
    const std::int64_t united = GetParam().united, row = count_ / outputs_;
    const std::int64_t outputs = GetParam().dims[GetParam().dims.size() - 4] / united;
    std::vector<float> all(plain.size() * static_cast<std::size_t>(united), 0.0f);
    for (std::int64_t e = 0; e < count_; ++e) {
      const std::int64_t o = e / row;
      all[(o * united + o / outputs % united) * row + e % row] = plain[e];
    }
    return all;
  }
  // What oneDNN's reorder makes of it; padding is 0.
  std::vector<float> reordered(const std::vector<float>& parameter) const {
    std::vector<float> plain = expanded(parameter);
    Engine engine;
    const memory::desc wanted = desc(GetParam().tag);
    std::vector<float> result(wanted.get_size() / sizeof(float), 0.0f);
    const memory::desc from = desc(GetParam().dims.size() == 4 ? Tag::abcd : Tag::abcde);
    memory source(from, engine.engine, plain.data());
    memory target(wanted, engine.engine, result.data());
    dnnl::reorder(source, target).execute(engine.stream, source, target);
    engine.stream.wait();
    return result;
  }

  std::int64_t count_ = 1, outputs_ = 0, inputs_ = 0;
  std::vector<float> plain_, scale_;
  comm::Stream stream_{comm::Device{}, 2};
};

TEST_P(WeightOrders, ArrangesAsTheLibraryDoes) {
  const WeightOrder order(desc(GetParam().tag), inputs_, 1);
  std::vector<float> ordered(static_cast<std::size_t>(order.bytes()) / sizeof(float), 0.0f);
  order.arrange(stream_, plain_.data(), nullptr, ordered.data());
  EXPECT_EQ(ordered, reordered(plain_));
  order.arrange(stream_, plain_.data(), scale_.data(), ordered.data());
  EXPECT_EQ(ordered, reordered(scaled()));
}

TEST_P(WeightOrders, RestoresAndAdds) {
  const WeightOrder order(desc(GetParam().tag), inputs_, 1);
  const std::vector<float> ordered = reordered(plain_);
  std::vector<float> restored(plain_.size(), 7.0f);
  order.restore(stream_, ordered.data(), false, restored.data());
  EXPECT_EQ(restored, plain_);
  order.restore(stream_, ordered.data(), true, restored.data());
  for (float& value : restored) value /= 2;
  EXPECT_EQ(restored, plain_);
}

// The same between a parameter in tiles and every order.
class OrdersOfTiles : public WeightOrders {};

TEST_P(OrdersOfTiles, AreArrangedAndRestored) {
  const memory::dims& d = GetParam().dims;
  const Shape shape = {d[0], d[1], d[2], d[3]};
  const WeightOrder order(desc(GetParam().tag), inputs_, 16);
  EXPECT_EQ(order.is_the_parameters(), GetParam().tag == Tag::ABcd16b16a);
  std::vector<float> tiles(plain_.size()), ordered(plain_.size());
  to_tiles(plain_, shape, 16, tiles);
  order.arrange(stream_, tiles.data(), nullptr, ordered.data());
  EXPECT_EQ(ordered, reordered(plain_));
  order.arrange(stream_, tiles.data(), scale_.data(), ordered.data());
  EXPECT_EQ(ordered, reordered(scaled()));
  std::vector<float> restored(plain_.size(), 7.0f);
  order.restore(stream_, reordered(plain_).data(), false, restored.data());
  EXPECT_EQ(restored, tiles);
  order.restore(stream_, reordered(plain_).data(), true, restored.data());
  for (float& value : restored) value /= 2;
  EXPECT_EQ(restored, tiles);
}

INSTANTIATE_TEST_SUITE_P(
    Orders, WeightOrders,
    ::testing::Values(
        Order{{32, 48, 3, 3}, Tag::ABcd16b16a}, Order{{32, 48, 3, 3}, Tag::ABcd16a16b},
        Order{{48, 32, 3, 3}, Tag::BAcd16a16b}, Order{{64, 32, 1, 1}, Tag::ABcd16b16a},
        Order{{64, 32, 1, 1}, Tag::BAcd16a16b}, Order{{32, 16, 5, 2}, Tag::ABcd16b16a},
        Order{{36, 20, 3, 3}, Tag::ABcd16b16a},  // padded
        Order{{20, 36, 1, 1}, Tag::ABcd16a16b}, Order{{32, 3, 7, 7}, Tag::Acdb16a},
        Order{{24, 16, 3, 3}, Tag::ABcd8b8a}, Order{{20, 12, 3, 3}, Tag::ABcd8b8a},
        Order{{16, 24, 1, 1}, Tag::ABcd8a8b}, Order{{8, 12, 3, 3}, Tag::abcd},
        Order{{4, 16, 8, 3, 3}, Tag::aBCde8c8b}, Order{{32, 1, 1, 3, 3}, Tag::Abcde16a},
        Order{{4, 32, 16, 3, 3}, Tag::aBCde16c16b}, Order{{3, 16, 32, 1, 1}, Tag::aBCde16b16c},
        Order{{2, 16, 16, 3, 3}, Tag::aBCde16c16b, 4},
        Order{{2, 32, 32, 3, 3}, Tag::aCBde16b16c, 4},
        Order{{2, 32, 16, 1, 1}, Tag::aBCde16c16b, 2}, Order{{3, 8, 8, 3, 3}, Tag::aBCde8c8b, 2},
        Order{{2, 8, 12, 3, 3}, Tag::abcde, 4}, Order{{18, 12, 3, 3}, Tag::ABcd16b16a, 3}));

INSTANTIATE_TEST_SUITE_P(Orders, OrdersOfTiles,
                         ::testing::Values(Order{{32, 48, 3, 3}, Tag::ABcd16b16a},
                                           Order{{32, 48, 3, 3}, Tag::ABcd16a16b},
                                           Order{{48, 32, 3, 3}, Tag::BAcd16a16b},
                                           Order{{64, 32, 1, 1}, Tag::ABcd16b16a},
                                           Order{{64, 32, 1, 1}, Tag::BAcd16a16b},
                                           Order{{32, 16, 5, 2}, Tag::ABcd16b16a},
                                           Order{{32, 16, 3, 3}, Tag::abcd},
                                           Order{{16, 32, 3, 3}, Tag::ABcd8b8a}));

TEST(WeightOrder, AnOpaqueOneIsABug) {
  memory::desc opaque({16, 16, 3, 3}, memory::data_type::f32, Tag::any);
  EXPECT_THROW(WeightOrder(opaque, 16, 1), comm::Error);
}

}  // namespace
}  // namespace models::onednn
