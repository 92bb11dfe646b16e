#include "trainer/data/data_check.h"

#include <atomic>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "trainer/data/sample_reader.h"

namespace trainer {
namespace {

struct Finding {
  std::optional<std::pair<AnomalyKind, std::string>> anomaly;
  std::exception_ptr error;
};

void count_pixels(const LabelImage& labels, int ignore, CheckResult& result) {
  std::vector<bool> seen(result.class_images.size(), false);
  for (const std::uint16_t value : labels.pixels) {
    if (value == ignore) {
      ++result.ignored_pixels;
    } else {
      ++result.class_pixels[value];
      seen[value] = true;
    }
  }
  for (std::size_t k = 0; k < seen.size(); ++k) result.class_images[k] += seen[k];
}

Finding check_one(const SampleReader& reader, const Dataset& dataset, std::int64_t index,
                  CheckResult& pixels) {
  Finding finding;
  try {
    const LabelImage labels = reader.check(index);
    count_pixels(labels, dataset.ignore(), pixels);
  } catch (const SampleError& error) {
    finding.anomaly = {error.kind(), error.what()};
  } catch (...) {
    finding.error = std::current_exception();
  }
  return finding;
}

}  // namespace

CheckResult check_samples(const Dataset& dataset, const DataConfig& config, const Fields& fields,
                          int threads) {
  const SampleReader reader(dataset, config, {.fields = fields});
  std::vector<Finding> findings(static_cast<std::size_t>(dataset.size()));
  CheckResult empty;
  empty.class_pixels.assign(static_cast<std::size_t>(dataset.num_classes()), 0);
  empty.class_images = empty.class_pixels;
  std::vector<CheckResult> parts(static_cast<std::size_t>(threads), empty);
  std::atomic<std::int64_t> next = 0;
  const auto work = [&](CheckResult& part) {
    for (std::int64_t i = next++; i < dataset.size(); i = next++)
      findings[static_cast<std::size_t>(i)] = check_one(reader, dataset, i, part);
  };
  std::vector<std::thread> pool;
  for (CheckResult& part : parts) pool.emplace_back([&work, &part] { work(part); });
  for (std::thread& thread : pool) thread.join();

  CheckResult result = std::move(empty);
  for (const CheckResult& part : parts) {
    result.ignored_pixels += part.ignored_pixels;
    for (std::size_t k = 0; k < result.class_pixels.size(); ++k) {
      result.class_pixels[k] += part.class_pixels[k];
      result.class_images[k] += part.class_images[k];
    }
  }
  for (std::size_t i = 0; i < findings.size(); ++i) {
    if (findings[i].error) std::rethrow_exception(findings[i].error);
    if (findings[i].anomaly)
      result.anomalies.add(findings[i].anomaly->first,
                           trainer::quoted(dataset.sample(static_cast<std::int64_t>(i)).name),
                           findings[i].anomaly->second);
  }
  return result;
}

}  // namespace trainer
