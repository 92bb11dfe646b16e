#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/random.h"

// The numbers that the goldens are made of, the same bits as tests/peers/common.py; the formulas
// are written down in README.md beside this file.
namespace goldens {

constexpr std::uint64_t kSignSeed = 1;
constexpr std::uint32_t kValues = 0, kSigns = 1;  // the epoch of the counter
constexpr int kNumProjections = 8;
constexpr std::size_t kNumFirst = 16;

// FNV-1a, 64 bits.
inline std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const unsigned char c : name) hash = (hash ^ c) * 0x100000001B3u;
  return hash;
}

// Calls use(i, word i) for i < count: word i is lane i % 4 of draw i / 4.
template <typename Use>
void for_each_word(std::uint64_t seed, std::string_view name, std::uint32_t epoch,
                   std::size_t count, Use use) {
  const std::uint64_t stream = stream_of(name);
  for (std::size_t begin = 0; begin < count; begin += 4) {
    const comm::Random4 words = comm::philox(seed, comm::Purpose::kInitialization, stream, epoch,
                                             static_cast<std::uint32_t>(begin / 4));
    for (std::size_t i = begin; i < std::min(begin + 4, count); ++i) use(i, words.v[i - begin]);
  }
}

struct Formula {
  float center = 0;
  float scale = 0;
};

// float(center + scale * (2u - 1)) with u = comm::uniform(word); the product is exact in double,
// so contraction to a fused multiply-add changes nothing.
inline std::vector<float> values(std::uint64_t seed, std::string_view name, std::size_t count,
                                 Formula formula) {
  std::vector<float> out(count);
  for_each_word(seed, name, kValues, count, [&](std::size_t i, std::uint32_t word) {
    const double t = 2.0 * comm::uniform(word) - 1.0;
    out[i] = static_cast<float>(formula.center + static_cast<double>(formula.scale) * t);
  });
  return out;
}

// The formula of a state_dict entry with floating-point values, by its name and shape.
inline Formula rule(std::string_view name, std::span<const std::int64_t> shape) {
  const auto ends = [&](std::string_view end) { return name.ends_with(end); };
  if (ends(".running_mean")) return {0.0f, 0.1f};
  if (ends(".running_var")) return {1.0f, 0.4f};
  if (ends("cls_logits.bias")) return {-4.59511985f, 0.3f};
  if (ends(".bias")) return {0.0f, 0.1f};
  if (ends(".bn3.weight")) return {0.2f, 0.1f};
  if (shape.size() == 1) return {1.0f, 0.2f};
  std::int64_t fan_in = 1;
  for (const std::int64_t extent : shape.subspan(1)) fan_in *= extent;
  const bool linear = name.find(".fpn.") != name.npos || ends("bbox_reg.weight");
  const double scale = std::sqrt((linear ? 1.0 : 3.0) / static_cast<double>(fan_in));
  return {0.0f, static_cast<float>(scale)};
}

// A state_dict entry other than num_batches_tracked (an int64 0).
inline std::vector<float> state(std::uint64_t seed, std::string_view name,
                                std::span<const std::int64_t> shape) {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  return values(seed, name, count, rule(name, shape));
}

// (H, W, 3), RGB.
inline std::vector<std::uint8_t> image_bytes(std::uint64_t seed, int index, int height, int width) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(height) * width * 3);
  for_each_word(seed, "image:" + std::to_string(index), kValues, out.size(),
                [&](std::size_t i, std::uint32_t word) { out[i] = word >> 24; });
  return out;
}

// (3, H, W): (byte / 255 - mean) / std with ImageNet's constants, each operation in float.
inline std::vector<float> normalised_image(std::uint64_t seed, int index, int height, int width) {
  constexpr std::array<float, 3> kMean = {0.485f, 0.456f, 0.406f}, kStd = {0.229f, 0.224f, 0.225f};
  const std::vector<std::uint8_t> bytes = image_bytes(seed, index, height, width);
  const std::size_t plane = bytes.size() / 3;
  std::vector<float> out(bytes.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::size_t c = i % 3;
    out[c * plane + i / 3] = (static_cast<float>(bytes[i]) / 255.0f - kMean[c]) / kStd[c];
  }
  return out;
}

// (H, W): one class per 8 x 8 square; num_classes stands for ignored, 255. REQUIRES: H, W % 8 == 0.
inline std::vector<std::uint8_t> label_map(std::uint64_t seed, int index, int height, int width,
                                           int num_classes) {
  const int columns = width / 8;
  std::vector<std::uint8_t> out(static_cast<std::size_t>(height) * width);
  for_each_word(seed, "labels:" + std::to_string(index), kValues,
                static_cast<std::size_t>(height / 8) * columns,
                [&](std::size_t cell, std::uint32_t word) {
                  const std::uint32_t label = (word >> 8) % (num_classes + 1);
                  const int row = static_cast<int>(cell) / columns * 8;
                  const int column = static_cast<int>(cell) % columns * 8;
                  for (int y = row; y < row + 8; ++y) {
                    std::fill_n(out.begin() + static_cast<std::ptrdiff_t>(y) * width + column, 8,
                                label == static_cast<std::uint32_t>(num_classes) ? 255 : label);
                  }
                });
  return out;
}

struct Statistics {
  double norm = 0;  // L2
  double sum = 0;
  std::array<double, kNumProjections> projections{};  // sums with random signs
  std::vector<double> first;                          // at most kNumFirst elements
};

// `name` is the key under which the golden holds the tensor.
template <typename T>
Statistics statistics(std::string_view name, std::span<const T> tensor) {
  Statistics out;
  for_each_word(kSignSeed, name, kSigns, tensor.size(), [&](std::size_t i, std::uint32_t word) {
    const double value = static_cast<double>(tensor[i]);
    out.norm += value * value;
    out.sum += value;
    for (int k = 0; k < kNumProjections; ++k) {
      out.projections[k] += (word >> k & 1) != 0 ? -value : value;
    }
    if (i < kNumFirst) out.first.push_back(value);
  });
  out.norm = std::sqrt(out.norm);
  return out;
}

// A golden's array: norm, sum, projections, first elements.
inline Statistics read_statistics(std::span<const double> stored) {
  Statistics out;
  out.norm = stored[0];
  out.sum = stored[1];
  std::copy_n(stored.begin() + 2, kNumProjections, out.projections.begin());
  out.first.assign(stored.begin() + 2 + kNumProjections, stored.end());
  return out;
}

// An estimate of ||a - b|| / ||b|| (each projection of the difference has the mean square
// ||a - b||^2): with eight of them within a factor of 2 in 98 of 100 cases. 0 where both are zero.
inline double distance(const Statistics& a, const Statistics& b) {
  double squares = 0;
  for (int k = 0; k < kNumProjections; ++k) {
    const double difference = a.projections[k] - b.projections[k];
    squares += difference * difference;
  }
  const double error = std::sqrt(squares / kNumProjections);
  return error == 0 ? 0 : error / b.norm;
}

}  // namespace goldens
