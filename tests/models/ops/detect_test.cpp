#include "models/ops/detect.h"

#include <algorithm>
#include <numeric>

#include "tests/models/golden_json.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

std::vector<Box> random_boxes(const std::string& name, int count) {
  const auto v = values(name, count * 4, 0.0f, 40.0f);
  std::vector<Box> boxes;
  for (int i = 0; i < count; ++i) {
    boxes.push_back(
        {v[i * 4], v[i * 4 + 1], v[i * 4] + 1 + v[i * 4 + 2], v[i * 4 + 1] + 1 + v[i * 4 + 3]});
  }
  return boxes;
}

TEST(Nms, IsTorchvisions) {
  const auto document = read_golden("detection.json");
  for (const auto& [name, c] : document["nms"].GetObject()) {
    SCOPED_TRACE(name.GetString());
    const auto scores = numbers(c["scores"]);
    std::vector<int> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return scores[a] > scores[b]; });
    std::vector<Box> boxes;
    std::vector<std::int32_t> labels;
    for (int i : order) {
      const auto b = numbers(c["boxes"][i]);
      boxes.push_back({static_cast<float>(b[0]), static_cast<float>(b[1]), static_cast<float>(b[2]),
                       static_cast<float>(b[3])});
      labels.push_back(c["labels"][i].GetInt());
    }
    std::vector<int> kept;
    for (int i : nms(boxes, labels, c["threshold"].GetFloat())) kept.push_back(order[i]);
    const auto expected = numbers(c["keep"]);
    EXPECT_EQ(kept, std::vector<int>(expected.begin(), expected.end()));
  }
}

// The other way round: the best box deletes what it covers, until none is left.
TEST(Nms, EqualsDeletion) {
  for (float iou : {0.0f, 0.3f, 0.5f, 0.9f}) {
    const auto boxes = random_boxes("nms", 200);
    std::vector<std::int32_t> labels;
    for (int i = 0; i < 200; ++i) labels.push_back(i % 3);
    std::vector<bool> alive(200, true);
    std::vector<int> expected;
    for (int i = 0; i < 200; ++i) {
      if (!alive[i]) continue;
      expected.push_back(i);
      for (int j = i + 1; j < 200; ++j) {
        if (labels[i] == labels[j] && box_iou(boxes[i], boxes[j]) > iou) alive[j] = false;
      }
    }
    EXPECT_EQ(nms(boxes, labels, iou), expected) << iou;
  }
}

TEST(Nms, BoundaryAndEmpty) {
  EXPECT_TRUE(nms({}, {}, 0.5f).empty());
  const std::vector<Box> half = {{0, 0, 2, 2}, {0, 0, 2, 1}};  // IoU is exactly 0.5
  const std::vector<std::int32_t> same = {1, 1}, other = {1, 2};
  EXPECT_EQ(nms(half, same, 0.5f).size(), 2u);  // only more than the threshold suppresses
  EXPECT_EQ(nms(half, same, 0.49f).size(), 1u);
  EXPECT_EQ(nms(half, other, 0.49f).size(), 2u);
}

constexpr int kClasses = 3, kPerCell = 9;
constexpr std::int64_t kHeight = 32, kWidth = 48;

class Detect : public ::testing::TestWithParam<DeviceCase> {
 protected:
  struct Found {
    std::vector<float> boxes, scores;
    std::vector<std::int32_t> labels, count;
  };
  Detect() {
    const std::vector<Shape> maps = {{2, 1, 4, 6}, {2, 1, 2, 3}};
    grid_ = make_anchors(kHeight, kWidth, maps, std::vector<int>{8, 16},
                         std::vector<double>{0.5, 1.0, 2.0});
    for (const Shape& m : maps) {
      shapes_.push_back({2, kPerCell * kClasses, m[2], m[3]});
      shapes_.push_back({2, kPerCell * 4, m[2], m[3]});
    }
    for (std::size_t i = 0; i < 4; ++i) {
      inputs_.push_back(values("head" + std::to_string(i), shapes_[i].count(), -3.0f, 3.0f));
    }
    options_ = {.num_classes = kClasses,
                .score_threshold = 0.6f,
                .per_level = 60,
                .nms_iou = 0.5f,
                .capacity = 40};
  }
  // Levels' logits at 0 and 2, deltas at 1 and 3.
  Found run(int block) {
    Graph graph;
    std::vector<Value> v;
    for (std::size_t i = 0; i < 4; ++i) {
      v.push_back(graph.input(std::to_string(i), {Type::kF32, shapes_[i]}));
    }
    detect(graph, grid_, {v[0], v[2]}, {v[1], v[3]}, kHeight, kWidth, options_);
    KernelRun run(GetParam(), graph,
                  {{shapes_[0], inputs_[0]},
                   {shapes_[2], inputs_[2]},
                   {shapes_[1], inputs_[1]},
                   {shapes_[3], inputs_[3]}},
                  block);
    run.forward();
    return {run.output(0), run.output(1), run.integers(2), run.integers(3)};
  }

  struct Candidate {
    double score;
    Box box;
    std::int32_t label;
  };
  // The rule, spelled out, for image n.
  std::vector<Candidate> expected(std::int64_t n) const {
    std::vector<Candidate> all;
    for (std::size_t l = 0; l < 2; ++l) {
      const std::int64_t cells = shapes_[l * 2][2] * shapes_[l * 2][3];
      std::vector<Candidate> level;
      for (std::int64_t a = 0; a < cells * kPerCell; ++a) {
        const std::int64_t cell = a / kPerCell, slot = a % kPerCell;
        float delta[4];
        for (int j = 0; j < 4; ++j) {
          delta[j] = inputs_[l * 2 + 1][(n * kPerCell * 4 + slot * 4 + j) * cells + cell];
        }
        const float* anchor = grid_->boxes.data() + (grid_->levels[l].first + a) * 4;
        Box b = decode_box({anchor[0], anchor[1], anchor[2], anchor[3]}, delta);
        for (float* x : {&b.x1, &b.x2}) *x = std::clamp(*x, 0.0f, static_cast<float>(kWidth));
        for (float* y : {&b.y1, &b.y2}) *y = std::clamp(*y, 0.0f, static_cast<float>(kHeight));
        for (int k = 0; k < kClasses; ++k) {
          const double x =
              inputs_[l * 2][(n * kPerCell * kClasses + slot * kClasses + k) * cells + cell];
          const double score = 1 / (1 + std::exp(-x));
          if (score > options_.score_threshold) level.push_back({score, b, k});
        }
      }
      const auto by_score = [](const Candidate& x, const Candidate& y) {
        return x.score > y.score;
      };
      std::stable_sort(level.begin(), level.end(), by_score);
      level.resize(std::min<std::size_t>(level.size(), options_.per_level));
      all.insert(all.end(), level.begin(), level.end());
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const Candidate& x, const Candidate& y) { return x.score > y.score; });
    std::vector<Candidate> kept;
    for (const Candidate& c : all) {
      const bool covered = std::any_of(kept.begin(), kept.end(), [&](const Candidate& k) {
        return k.label == c.label && box_iou(k.box, c.box) > options_.nms_iou;
      });
      if (!covered) kept.push_back(c);
    }
    kept.resize(std::min<std::size_t>(kept.size(), options_.capacity));
    return kept;
  }

  void expect_equals_rule(const Found& found) const {
    for (std::int64_t n = 0; n < 2; ++n) {
      const auto rule = expected(n);
      ASSERT_EQ(found.count[n], static_cast<int>(rule.size()));
      for (std::size_t i = 0; i < static_cast<std::size_t>(options_.capacity); ++i) {
        const std::size_t at = n * options_.capacity + i;
        const bool exists = i < rule.size();
        ASSERT_NEAR(found.scores[at], exists ? rule[i].score : 0, 1e-6) << i;
        ASSERT_EQ(found.labels[at], exists ? rule[i].label : 0) << i;
        ASSERT_EQ(found.boxes[at * 4], exists ? rule[i].box.x1 : 0.0f) << i;
        ASSERT_EQ(found.boxes[at * 4 + 3], exists ? rule[i].box.y2 : 0.0f) << i;
      }
    }
  }

  std::shared_ptr<const AnchorGrid> grid_;
  std::vector<Shape> shapes_;
  std::vector<std::vector<float>> inputs_;
  DetectOptions options_;
};

TEST_P(Detect, EqualsTheRuleInEveryOrder) {
  for (int block : channel_blocks(GetParam())) {
    SCOPED_TRACE(block);
    expect_equals_rule(run(block));
  }
}

// A network that has diverged is not one that finds nothing.
TEST_P(Detect, NansShow) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto num_nans = [](const std::vector<float>& values) {
    return std::count_if(values.begin(), values.end(), [](float v) { return std::isnan(v); });
  };
  const auto whole = inputs_;
  inputs_[0].back() = nan;  // of the second image
  const Found found = run(1);
  EXPECT_EQ(num_nans(found.scores), options_.capacity);
  EXPECT_TRUE(std::isnan(found.scores.back()));
  EXPECT_EQ(num_nans(found.boxes), 0);
  inputs_ = whole;
  std::fill(inputs_[1].begin(), inputs_[1].end(), nan);
  std::fill(inputs_[3].begin(), inputs_[3].end(), nan);
  EXPECT_GT(num_nans(run(1).boxes), 0);
}

TEST_P(Detect, Limits) {
  options_.per_level = 5;  // fewer candidates than the threshold leaves
  expect_equals_rule(run(1));
  options_.capacity = 3;  // fewer detections than suppression leaves
  expect_equals_rule(run(1));
  options_ = {.num_classes = kClasses,
              .score_threshold = 0.999f,
              .per_level = 60,
              .nms_iou = 0.5f,
              .capacity = 4};
  const Found none = run(1);
  EXPECT_EQ(none.count, (std::vector<std::int32_t>{0, 0}));
  for (float s : none.scores) EXPECT_EQ(s, 0.0f);
}

// Equal scores: level, then anchor, then class decide, whatever the sort does.
TEST_P(Detect, TiesKeepTheirOrder) {
  for (std::size_t i : {0, 2}) std::fill(inputs_[i].begin(), inputs_[i].end(), 1.0f);
  options_.nms_iou = 1.0f;  // nothing is suppressed
  expect_equals_rule(run(1));
}

// A network that diverged detects nothing rather than nonsense.
TEST_P(Detect, ScoresThatAreNoNumbersAreDropped) {
  for (std::size_t i : {0, 2}) {
    std::fill(inputs_[i].begin(), inputs_[i].end(), std::nanf(""));
  }
  EXPECT_EQ(run(1).count, (std::vector<std::int32_t>{0, 0}));
}

INSTANTIATE_TEST_SUITE_P(Devices, Detect, ::testing::ValuesIn(devices()), device_name);

}  // namespace
}  // namespace models::testing
