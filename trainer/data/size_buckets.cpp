#include "trainer/data/size_buckets.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace trainer {

std::vector<Size> size_buckets(const DataConfig& config) {
  std::vector<Size> buckets;
  for (const auto& size : config.size)
    buckets.push_back({.width = size.width, .height = size.height});
  return buckets;
}

int least_padding_bucket(const std::vector<Size>& buckets, Size image) {
  REQUIRE(!buckets.empty() && image.width > 0 && image.height > 0, "{} buckets, image {}x{}",
          buckets.size(), image.width, image.height);
  const auto cost = [&](const Size& bucket) {
    const double x = static_cast<double>(bucket.width) / image.width;
    const double y = static_cast<double>(bucket.height) / image.height;
    // content / bucket = min(x, y)^2 w h / (W H) = min(x, y) / max(x, y)
    return std::tuple(1 - std::min(x, y) / std::max(x, y), std::abs(std::log(std::min(x, y))));
  };
  const auto best =
      std::min_element(buckets.begin(), buckets.end(),
                       [&](const Size& a, const Size& b) { return cost(a) < cost(b); });
  return static_cast<int>(best - buckets.begin());
}

std::vector<int> assign_buckets(const Dataset& dataset, const std::vector<Size>& buckets) {
  if (buckets.size() < 2) return {};
  std::vector<int> result(static_cast<std::size_t>(dataset.size()), 0);
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const Sample& sample = dataset.sample(i);
    Size size = {.width = sample.width, .height = sample.height};
    if (size.width == 0) {
      try {
        const ImageInfo info = probe_image(sample.file);
        size = {.width = info.width, .height = info.height};
      } catch (const comm::Error&) {
        continue;  // reading the sample will say so, under on_error
      }
    }
    result[static_cast<std::size_t>(i)] = least_padding_bucket(buckets, size);
  }
  return result;
}

}  // namespace trainer
