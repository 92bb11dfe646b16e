// Anchors, the box coder and matching against torchvision (tests/peers/detection_goldens.py) and
// against the plainest statement of the rule.
#include "models/ops/anchors.h"

#include "models/ops/match_anchors.h"
#include "tests/models/golden_json.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

const std::vector<int> kSizes = {32, 64, 128, 256, 512};
const std::vector<double> kRatios = {0.5, 1.0, 2.0};

std::shared_ptr<const AnchorGrid> retinanet_anchors(std::int64_t height, std::int64_t width) {
  std::vector<Shape> maps;
  Shape map = {1, 256, height, width};
  for (int level = 1; level <= 7; ++level) {
    for (int d : {2, 3}) map[d] = (map[d] + 1) / 2;
    if (level >= 3) maps.push_back(map);
  }
  return make_anchors(height, width, maps, kSizes, kRatios);
}

Box box_at(const std::vector<float>& v, std::size_t i) {
  return {v[i * 4], v[i * 4 + 1], v[i * 4 + 2], v[i * 4 + 3]};
}

std::vector<float> flatten(const rapidjson::Value& rows) {
  std::vector<float> flat;
  for (const auto& row : rows.GetArray()) {
    for (double v : numbers(row)) flat.push_back(static_cast<float>(v));
  }
  return flat;
}

TEST(Anchors, AreTorchvisions) {
  const auto golden = read_golden("detection.json");
  for (const auto& [name, size] : golden["anchors"]["sizes"].GetObject()) {
    SCOPED_TRACE(name.GetString());
    const auto grid = retinanet_anchors(size["height"].GetInt(), size["width"].GetInt());
    ASSERT_EQ(grid->total(), size["count"].GetInt64());
    EXPECT_EQ(grid->per_cell, 9);
    ASSERT_EQ(grid->levels.size(), 5u);
    std::int64_t first = 0;
    for (rapidjson::SizeType l = 0; l < 5; ++l) {
      EXPECT_EQ(grid->levels[l].first, first);
      EXPECT_EQ(grid->levels[l].height, size["grids"][l][0].GetInt64());
      EXPECT_EQ(grid->levels[l].width, size["grids"][l][1].GetInt64());
      first += grid->levels[l].height * grid->levels[l].width * 9;
    }
    std::int64_t checksum = 0;
    for (std::size_t i = 0; i < grid->boxes.size(); ++i) {
      const auto weight = static_cast<std::int64_t>(i % 65536 + 1);
      checksum += weight * static_cast<std::int64_t>(grid->boxes[i]);
    }
    EXPECT_EQ(checksum, size["checksum"].GetInt64());
    const std::vector<float> head(grid->boxes.begin(), grid->boxes.begin() + 36);
    const std::vector<float> tail(grid->boxes.end() - 36, grid->boxes.end());
    EXPECT_EQ(head, flatten(size["first"]));
    EXPECT_EQ(tail, flatten(size["last"]));
  }
}

TEST(Anchors, LevelsAndSizesMustAgree) {
  const std::vector<Shape> maps = {{1, 8, 4, 4}};
  EXPECT_THROW(make_anchors(32, 32, maps, kSizes, kRatios), comm::Error);
}

TEST(BoxCoder, IsTorchvisions) {
  const auto document = read_golden("detection.json");
  const auto& golden = document["box_coder"];
  const auto anchors = flatten(golden["anchors"]), boxes = flatten(golden["boxes"]);
  const auto deltas = flatten(golden["deltas"]), encoded = flatten(golden["encoded"]);
  const auto decoded = flatten(golden["decoded"]);
  for (std::size_t i = 0; i < anchors.size() / 4; ++i) {
    const Box anchor = box_at(anchors, i), got = decode_box(anchor, deltas.data() + i * 4);
    const Box expected = box_at(decoded, i);
    for (int j = 0; j < 4; ++j) {
      EXPECT_NEAR(encode_box(anchor, box_at(boxes, i), j), encoded[i * 4 + j], 2e-6) << i << j;
    }
    EXPECT_NEAR(got.x1, expected.x1, 2e-4 + 1e-6 * std::abs(expected.x1)) << i;
    EXPECT_NEAR(got.y1, expected.y1, 2e-4 + 1e-6 * std::abs(expected.y1)) << i;
    EXPECT_NEAR(got.x2, expected.x2, 2e-4 + 1e-6 * std::abs(expected.x2)) << i;
    EXPECT_NEAR(got.y2, expected.y2, 2e-4 + 1e-6 * std::abs(expected.y2)) << i;
  }
}

TEST(BoxCoder, DecodeInvertsEncode) {
  const auto random = values("boxes", 400, 0.0f, 50.0f);
  for (std::size_t i = 0; i + 8 <= random.size(); i += 8) {
    const Box anchor = {random[i], random[i + 1], random[i] + 1 + random[i + 2],
                        random[i + 1] + 1 + random[i + 3]};
    const Box box = {random[i + 4], random[i + 5], random[i + 4] + 1 + random[i + 6],
                     random[i + 5] + 1 + random[i + 7]};
    float delta[4];
    for (int j = 0; j < 4; ++j) delta[j] = encode_box(anchor, box, j);
    const Box back = decode_box(anchor, delta);
    EXPECT_NEAR(back.x1, box.x1, 1e-3);
    EXPECT_NEAR(back.y2, box.y2, 1e-3);
  }
}

TEST(BoxIou, KnownValues) {
  const Box unit = {0, 0, 2, 2};
  EXPECT_EQ(box_iou(unit, unit), 1.0f);
  EXPECT_FLOAT_EQ(box_iou(unit, {1, 0, 3, 2}), 1.0f / 3.0f);
  EXPECT_EQ(box_iou(unit, {2, 0, 4, 2}), 0.0f);          // touching
  EXPECT_EQ(box_iou(unit, {5, 5, 6, 6}), 0.0f);          // apart
  EXPECT_EQ(box_iou({1, 1, 1, 1}, {1, 1, 1, 1}), 0.0f);  // 0 / 0
  EXPECT_FLOAT_EQ(box_iou({0, 0, 4, 4}, {1, 1, 3, 3}), 0.25f);
}

struct Matched {
  std::vector<std::int32_t> target, box;
  std::vector<float> scale;
};

struct Truth {
  std::vector<Box> boxes;
  std::vector<std::int32_t> labels;
};

Matched match(const DeviceCase& device, std::shared_ptr<const AnchorGrid> grid,
              const std::vector<Truth>& images, std::int64_t capacity, float low = 0.4f,
              float high = 0.5f) {
  const auto num_images = static_cast<std::int64_t>(images.size());
  std::vector<float> boxes;
  std::vector<std::int32_t> labels, count;
  for (const Truth& image : images) {
    for (std::int64_t i = 0; i < capacity; ++i) {
      // slots past the count hold what the batch before left there
      const bool exists = i < static_cast<std::int64_t>(image.boxes.size());
      const Box b = exists ? image.boxes[i] : Box{0, 0, 60, 60};
      boxes.insert(boxes.end(), {b.x1, b.y1, b.x2, b.y2});
      labels.push_back(exists ? image.labels[i] : 77);
    }
    count.push_back(static_cast<std::int32_t>(image.boxes.size()));
  }
  Graph graph;
  const Shape per_box = {num_images, capacity};
  match_anchors(graph, grid, graph.input("boxes", {Type::kF32, {num_images, capacity, 4}}),
                graph.input("labels", {Type::kI32, per_box}),
                graph.input("count", {Type::kI32, {num_images}}), low, high);
  KernelRun run(
      device, graph,
      {{{num_images, capacity, 4}, boxes}, {per_box, {}, labels}, {{num_images}, {}, count}}, 1);
  run.forward();
  return {run.integers(0), run.integers(1), run.output(2)};
}

// torchvision's Matcher with its IoU matrix, low-quality matches allowed.
std::vector<std::int32_t> plain_matcher(const AnchorGrid& grid, const std::vector<Box>& boxes,
                                        float low, float high) {
  const auto num_anchors = static_cast<std::size_t>(grid.total());
  std::vector<std::int32_t> result(num_anchors, kBackground), best_box(num_anchors, kBackground);
  std::vector<float> best_of_box(boxes.size(), 0.0f);
  for (std::size_t a = 0; a < num_anchors; ++a) {
    float best = -1.0f;
    for (std::size_t g = 0; g < boxes.size(); ++g) {
      const float iou = box_iou(boxes[g], box_at(grid.boxes, a));
      best_of_box[g] = std::max(best_of_box[g], iou);
      if (iou > best) {
        best = iou;
        best_box[a] = static_cast<std::int32_t>(g);
      }
    }
    if (boxes.empty()) continue;
    result[a] = best >= high ? best_box[a] : best < low ? kBackground : kIgnored;
  }
  for (std::size_t a = 0; a < num_anchors; ++a) {
    for (std::size_t g = 0; g < boxes.size(); ++g) {
      const float iou = box_iou(boxes[g], box_at(grid.boxes, a));
      if (iou > 0 && iou == best_of_box[g]) result[a] = best_box[a];
    }
  }
  return result;
}

class MatchAnchors : public ::testing::TestWithParam<DeviceCase> {};

TEST_P(MatchAnchors, IsTorchvisions) {
  const auto document = read_golden("detection.json");
  const auto& golden = document["matcher"];
  for (const auto& [name, c] : golden["cases"].GetObject()) {
    SCOPED_TRACE(name.GetString());
    const auto grid = retinanet_anchors(c["height"].GetInt(), c["width"].GetInt());
    Truth truth;
    const auto flat = flatten(c["boxes"]);
    for (std::size_t i = 0; i < flat.size() / 4; ++i) {
      truth.boxes.push_back(box_at(flat, i));
      truth.labels.push_back(static_cast<std::int32_t>(10 + i));
    }
    std::vector<std::int32_t> expected(static_cast<std::size_t>(grid->total()), kBackground);
    int positives = 0;
    for (const auto& run : c["not_background"].GetArray()) {
      expected[run[0].GetUint()] = run[1].GetInt();
      positives += run[1].GetInt() >= 0;
    }
    const Matched got = match(GetParam(), grid, {truth}, 8, golden["background"].GetFloat(),
                              golden["foreground"].GetFloat());
    EXPECT_EQ(got.box, expected);
    for (std::size_t a = 0; a < expected.size(); ++a) {
      const std::int32_t label = expected[a] >= 0 ? 10 + expected[a] : expected[a];
      ASSERT_EQ(got.target[a], label) << a;
    }
    EXPECT_FLOAT_EQ(got.scale[0], 1.0f / static_cast<float>(positives));
  }
}

TEST_P(MatchAnchors, EqualsThePlainMatcher) {
  const auto grid = retinanet_anchors(64, 96);
  const auto random = values("truth", 4 * 60, 0.0f, 60.0f);
  std::vector<Truth> images(3);
  for (std::size_t i = 0; i < 60; ++i) {
    const float x = random[i * 4], y = random[i * 4 + 1];
    Truth& image = images[i % 2];  // the third image stays empty
    image.boxes.push_back(
        {x, y, x + 1 + random[i * 4 + 2] * 0.6f, y + 1 + random[i * 4 + 3] * 0.6f});
    image.labels.push_back(static_cast<std::int32_t>(i % 5));
  }
  for (const auto& [low, high] :
       {std::pair{0.4f, 0.5f}, std::pair{0.3f, 0.7f}, std::pair{0.5f, 0.5f}}) {
    const Matched got = match(GetParam(), grid, images, 40, low, high);
    for (std::size_t n = 0; n < images.size(); ++n) {
      const auto expected = plain_matcher(*grid, images[n].boxes, low, high);
      double positives = 0;
      for (std::size_t a = 0; a < expected.size(); ++a) {
        ASSERT_EQ(got.box[n * expected.size() + a], expected[a]) << n << " " << a;
        positives += expected[a] >= 0;
      }
      EXPECT_FLOAT_EQ(got.scale[n], static_cast<float>(1.0 / (3 * std::max(1.0, positives))));
    }
  }
}

// Two boxes of one place: every anchor takes the first.
TEST_P(MatchAnchors, TiesGoToTheFirstBox) {
  const auto grid = retinanet_anchors(64, 64);
  const Matched got = match(GetParam(), grid, {{{{8, 8, 40, 40}, {8, 8, 40, 40}}, {3, 4}}}, 2);
  EXPECT_GT(std::count(got.box.begin(), got.box.end(), 0), 0);
  EXPECT_EQ(std::count(got.box.begin(), got.box.end(), 1), 0);
}

// A box too small for any threshold still has its best anchors; one off the anchors has none.
TEST_P(MatchAnchors, EveryBoxThatTouchesAnAnchorHasOne) {
  const auto grid = retinanet_anchors(64, 64);
  const Matched got =
      match(GetParam(), grid,
            {{{{30, 30, 32, 32}, {2000, 2000, 2010, 2010}, {5, 5, 5, 5}}, {1, 2, 3}}}, 3);
  EXPECT_GT(std::count(got.target.begin(), got.target.end(), 1), 0);
  EXPECT_EQ(std::count(got.target.begin(), got.target.end(), 2), 0);
  EXPECT_EQ(std::count(got.target.begin(), got.target.end(), 3), 0);
}

// Boxes far longer than wide overlap no anchor well: each has its best anchors all the same, on a
// GPU those of a CPU. One kernel finds the highest overlap, another compares with it; products that
// only one of them contracts would lose them.
TEST_P(MatchAnchors, LongBoxesKeepTheirBestAnchors) {
  constexpr std::size_t kBoxes = 120;
  const auto grid = retinanet_anchors(128, 192);
  const auto random = values("long boxes", 4 * kBoxes, 0.0f, 1.0f);
  std::vector<Truth> images(kBoxes);
  for (std::size_t i = 0; i < kBoxes; ++i) {
    const float x = 150 * random[4 * i], y = 80 * random[4 * i + 1];
    const float width = 20 + 20 * random[4 * i + 2], height = 1 + random[4 * i + 3];
    images[i] = {{{x, y, x + width, y + height}}, {static_cast<std::int32_t>(i)}};
  }
  const Matched got = match(GetParam(), grid, images, 1);
  const auto num_anchors = static_cast<std::size_t>(grid->total());
  for (std::size_t i = 0; i < kBoxes; ++i) {
    const auto expected = plain_matcher(*grid, images[i].boxes, 0.4f, 0.5f);
    const auto first = got.box.begin() + static_cast<std::ptrdiff_t>(i * num_anchors);
    const auto last = first + static_cast<std::ptrdiff_t>(num_anchors);
    EXPECT_TRUE(std::equal(first, last, expected.begin(), expected.end())) << i;
    EXPECT_GT(std::count(first, last, 0), 0) << i;
  }
}

TEST_P(MatchAnchors, WithoutBoxesAllIsBackground) {
  const auto grid = retinanet_anchors(64, 64);
  const Matched got = match(GetParam(), grid, {{}, {}}, 4);
  for (std::int32_t t : got.target) ASSERT_EQ(t, kBackground);
  EXPECT_EQ(got.scale, (std::vector<float>{0.5f, 0.5f}));
}

INSTANTIATE_TEST_SUITE_P(Devices, MatchAnchors, ::testing::ValuesIn(devices()), device_name);

}  // namespace
}  // namespace models::testing
