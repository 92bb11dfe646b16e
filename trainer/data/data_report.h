#pragma once

#include <optional>
#include <span>
#include <string>

#include "trainer/data/data_check.h"
#include "trainer/data/data_statistics.h"

namespace trainer {

// What `ridgeline data` says of one split.
struct SplitReport {
  std::string split, source, format;
  std::uint64_t fingerprint = 0;
  DataStatistics statistics;
  AnomalyReport anomalies;           // of the annotations, and of the files if checked
  std::optional<CheckResult> check;  // --check
  std::string problem;               // the line `train` would stop with; empty: it would not
};

// REQUIRES: `fields` as the model of `config` declares them.
struct ReportOptions {
  Fields fields;
  int model_num_classes = 0;
  bool check = false;
  int threads = 1;
};

struct DataReport {
  std::vector<SplitReport> splits;
  std::optional<comm::Error> stop;  // what `train` would stop with
};

// Every split of the config. `stop` is of the splits that training opens (train and val): 65 or 66
// by on_error, by a box count beyond max_boxes, by classes that differ.
DataReport data_report(const DataConfig& config, const ReportOptions& options);

std::string data_report_text(const DataReport& report, const DataConfig& config);
// {"splits": {"train": {"images": ..., "anomalies": {...}}}, "stop": {"exit": 65, ...} | null}
std::string data_report_json(const DataReport& report);

}  // namespace trainer
