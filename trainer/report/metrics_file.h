#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/report/append_file.h"
#include "trainer/report/step_report.h"

namespace trainer {

// metrics.jsonl: one JSON object a line. Undefined and infinite values are null. Written by rank 0.
class MetricsFile {
 public:
  explicit MetricsFile(std::filesystem::path path);

  // False: the line is lost (AppendFile says why); the file stays well-formed.
  // Keys: step epoch images loss [losses] lr l2_penalty grad_norm images_per_second data_seconds
  // step_seconds eta_seconds memory_bytes [extra].
  bool training(const StepReport& report);
  // Keys: step split [metrics], the metrics named as in `checkpoint.best`: "bbox/AP".
  bool evaluation(std::int64_t step, std::string_view split, std::span<const NamedValue> metrics);

  // Removes the lines of later steps than `step`, and a torn last line; by write_file, so that a
  // kill leaves the old or the new file. A missing file is an empty one. Errors: kIo.
  void cut_back(std::int64_t step);

  const AppendFile& file() const { return file_; }

 private:
  AppendFile file_;
};

// One line of metrics.jsonl read back. Values that are null or no numbers are left out.
struct MetricsLine {
  std::int64_t step = 0;
  std::string split;  // empty: a training line
  std::map<std::string, double> values;
};

// Lines that are not JSON objects with a step (torn by a crash) are skipped. Errors: kIo.
std::vector<MetricsLine> read_metrics(const std::filesystem::path& path);

}  // namespace trainer
