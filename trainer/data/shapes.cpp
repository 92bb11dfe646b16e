#include "trainer/data/shapes.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "comm/error.h"
#include "comm/random.h"

namespace trainer {
namespace {

constexpr double kMinSide = 0.12, kMaxSide = 0.5;  // of the image's smaller side
constexpr double kMaxCovered = 0.25;
constexpr int kMaxTries = 30;
constexpr float kMinContrast = 130;  // sum of the channels' differences
constexpr int kTextureCells = 6;
constexpr float kTextureRange = 25;
constexpr int kNoiseRange = 14;

enum Stream : std::uint32_t { kLayout = 0, kTexture = 1, kNoise = 2 };

// Uniform numbers in order of demand.
class Draws {
 public:
  Draws(std::uint64_t seed, std::uint64_t index, Stream stream)
      : seed_(seed), index_(index), stream_(stream) {}
  float uniform() {
    if (used_ == 4) {
      block_ = comm::philox(seed_, comm::Purpose::kSynthetic, index_, stream_, next_++);
      used_ = 0;
    }
    return comm::uniform(block_.v[used_++]);
  }
  double between(double low, double high) { return low + (high - low) * uniform(); }
  int below(int end) { return std::min(static_cast<int>(uniform() * end), end - 1); }

 private:
  std::uint64_t seed_, index_;
  Stream stream_;
  std::uint32_t next_ = 0;
  int used_ = 4;
  comm::Random4 block_ = {};
};

using Color = std::array<float, 3>;

struct Plan {
  int label = 1;
  double x = 0, y = 0, w = 0, h = 0;  // the frame it is inscribed in
  double apex = 0.5;                  // of a triangle, as a share of w
  bool upside_down = false;
  Color color = {};
};

bool inside(const Plan& p, double x, double y) {
  const double u = (x - p.x) / p.w, v = (y - p.y) / p.h;
  if (u < 0 || u > 1 || v < 0 || v > 1) return false;
  if (p.label == 2) return true;
  if (p.label == 1) return (u - 0.5) * (u - 0.5) + (v - 0.5) * (v - 0.5) <= 0.25;
  const double depth = p.upside_down ? 1 - v : v;  // 0 at the apex
  return u >= p.apex * (1 - depth) && u <= p.apex + (1 - p.apex) * depth;
}

Color contrasting_color(Draws& draws, const Color& ground) {
  Color color = {};
  for (int i = 0; i < kMaxTries; ++i) {
    float contrast = 0;
    for (int c = 0; c < 3; ++c) {
      color[c] = static_cast<float>(draws.between(10, 245));
      contrast += std::abs(color[c] - ground[c]);
    }
    if (contrast >= kMinContrast) break;
  }
  return color;
}

Plan draw_plan(Draws& draws, int width, int height, const Color& ground) {
  Plan p;
  p.label = 1 + draws.below(3);
  const double side = std::min(width, height) * draws.between(kMinSide, kMaxSide);
  const double aspect = p.label == 1 ? 1 : std::sqrt(draws.between(0.5, 2));
  const double limit = std::min(width, height) * kMaxSide;
  p.w = std::clamp(side * aspect, 3.0, limit);
  p.h = std::clamp(side / aspect, 3.0, limit);
  p.x = draws.between(0, width - p.w);
  p.y = draws.between(0, height - p.h);
  p.apex = draws.between(0.2, 0.8);
  p.upside_down = draws.below(2) == 1;
  p.color = contrasting_color(draws, ground);
  return p;
}

double shared_area(const Plan& a, const Plan& b) {
  const double w = std::min(a.x + a.w, b.x + b.w) - std::max(a.x, b.x);
  const double h = std::min(a.y + a.h, b.y + b.h) - std::max(a.y, b.y);
  return w > 0 && h > 0 ? w * h : 0;
}

// Adds the plan if no frame, neither its own nor an earlier one, gets too much of others on it.
bool try_add(std::vector<Plan>& plans, std::vector<double>& covered, const Plan& plan) {
  std::vector<double> now = covered;
  double own = 0;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const double shared = shared_area(plans[i], plan);
    now[i] += shared / (plans[i].w * plans[i].h);
    own += shared / (plan.w * plan.h);
    if (now[i] > kMaxCovered || own > kMaxCovered) return false;
  }
  covered = now;
  covered.push_back(own);
  plans.push_back(plan);
  return true;
}

void paint_ground(Image& image, Draws& draws, const Color& ground) {
  constexpr int kNodes = kTextureCells + 1;
  std::array<float, kNodes * kNodes> nodes;
  for (float& node : nodes) node = (2 * draws.uniform() - 1) * kTextureRange;
  std::size_t at = 0;
  for (int y = 0; y < image.height; ++y) {
    const float v = (static_cast<float>(y) + 0.5f) / image.height * kTextureCells;
    const int row = static_cast<int>(v);
    const float fv = v - row;
    for (int x = 0; x < image.width; ++x) {
      const float u = (static_cast<float>(x) + 0.5f) / image.width * kTextureCells;
      const int column = static_cast<int>(u);
      const float fu = u - column;
      const float* n = &nodes[row * kNodes + column];
      const float texture = (1 - fv) * ((1 - fu) * n[0] + fu * n[1]) +
                            fv * ((1 - fu) * n[kNodes] + fu * n[kNodes + 1]);
      for (int c = 0; c < 3; ++c)
        image.rgb[at++] = static_cast<std::uint8_t>(std::clamp(ground[c] + texture, 0.0f, 255.0f));
    }
  }
}

DrawnShape paint_shape(ShapesSample& sample, const Plan& plan) {
  const int width = sample.image.width;
  DrawnShape shape;
  shape.label = plan.label;
  shape.mask.assign(sample.labels.pixels.size(), 0);
  int x1 = width, y1 = sample.image.height, x2 = 0, y2 = 0;
  const int last_x = std::min(width, static_cast<int>(plan.x + plan.w) + 1);
  const int last_y = std::min(sample.image.height, static_cast<int>(plan.y + plan.h) + 1);
  for (int y = static_cast<int>(plan.y); y < last_y; ++y) {
    for (int x = static_cast<int>(plan.x); x < last_x; ++x) {
      if (!inside(plan, x + 0.5, y + 0.5)) continue;
      const std::size_t at = static_cast<std::size_t>(y) * width + x;
      shape.mask[at] = 1;
      sample.labels.pixels[at] = static_cast<std::uint16_t>(plan.label);
      for (int c = 0; c < 3; ++c)
        sample.image.rgb[3 * at + c] = static_cast<std::uint8_t>(plan.color[c]);
      x1 = std::min(x1, x), y1 = std::min(y1, y);
      x2 = std::max(x2, x + 1), y2 = std::max(y2, y + 1);
    }
  }
  shape.box = {double(x1), double(y1), double(x2), double(y2)};
  for (DrawnShape& farther : sample.shapes)
    for (std::size_t i = 0; i < shape.mask.size(); ++i) farther.mask[i] &= !shape.mask[i];
  return shape;
}

// Whole numbers of -kNoiseRange .. kNoiseRange, from one byte of a draw each.
void add_noise(Image& image, std::uint64_t seed, std::uint64_t index) {
  std::uint32_t next = 0;
  for (std::size_t i = 0; i < image.rgb.size();) {
    const comm::Random4 block =
        comm::philox(seed, comm::Purpose::kSynthetic, index, kNoise, next++);
    for (int byte = 0; byte < 16 && i < image.rgb.size(); ++byte, ++i) {
      const int bits = static_cast<int>(block.v[byte / 4] >> (8 * (byte % 4)) & 0xFF);
      const int noise = bits * (2 * kNoiseRange + 1) / 256 - kNoiseRange;
      image.rgb[i] = static_cast<std::uint8_t>(std::clamp(image.rgb[i] + noise, 0, 255));
    }
  }
}

}  // namespace

ShapesSample draw_shapes(std::uint64_t seed, std::uint64_t index, int width, int height) {
  REQUIRE(width >= 8 && height >= 8, "shapes of {} x {}", width, height);
  Draws layout(seed, index, kLayout);
  Draws texture(seed, index, kTexture);
  const std::size_t num_pixels = static_cast<std::size_t>(width) * height;
  ShapesSample sample;
  sample.image = {width, height, std::vector<std::uint8_t>(3 * num_pixels)};
  sample.labels = {width, height, std::vector<std::uint16_t>(num_pixels, 0)};
  Color ground;
  for (float& channel : ground) channel = static_cast<float>(layout.between(40, 215));
  paint_ground(sample.image, texture, ground);
  const int wanted = 1 + layout.below(kMaxShapes);
  std::vector<Plan> plans;
  std::vector<double> covered;
  for (int i = 0; i < kMaxTries && static_cast<int>(plans.size()) < wanted; ++i)
    try_add(plans, covered, draw_plan(layout, width, height, ground));
  for (const Plan& plan : plans) sample.shapes.push_back(paint_shape(sample, plan));
  add_noise(sample.image, seed, index);
  return sample;
}

}  // namespace trainer
