#include "trainer/data/data_report.h"

#include <utility>

namespace trainer {
namespace {

std::vector<std::string> split_names(const DataConfig& config) {
  std::vector<std::string> names;  // those of training first
  for (const char* name : {"train", "val"})
    if (config.splits.contains(name)) names.emplace_back(name);
  for (const auto& [name, split] : config.splits)
    if (name != "train" && name != "val") names.push_back(name);
  if (names.empty()) names.emplace_back("train");
  return names;
}

void keep_first(std::optional<comm::Error>& first, const comm::Error& error) {
  if (!first) first = error;
}

// Adds the split to the report; its data set if it could be opened.
std::unique_ptr<Dataset> report_split(const std::string& name, const DataConfig& config,
                                      const ReportOptions& options, DataReport& report) {
  const bool trained = name == "train" || name == "val";
  SplitReport split;
  split.split = name;
  split.format = to_string(config.format);
  std::unique_ptr<Dataset> dataset;
  try {
    dataset = open_dataset(config, {.split = name,
                                    .fields = options.fields,
                                    .model_num_classes = options.model_num_classes,
                                    .enforce = false});
    split.source = dataset->source();
    split.fingerprint = dataset->fingerprint();
    split.statistics = data_statistics(*dataset, config);
    split.anomalies = dataset->anomalies();
    if (options.check) {
      split.check = check_samples(*dataset, config, options.fields, options.threads);
      split.anomalies.merge(split.check->anomalies);
    }
    split.anomalies.enforce(config.on_error == OnError::kSkip, config.skip_limit, split.source);
  } catch (const comm::Error& error) {
    const bool of_data =
        error.code() == comm::ExitCode::kData || error.code() == comm::ExitCode::kInputMissing;
    if (!of_data) throw;
    split.problem = error.what();
    if (trained) keep_first(report.stop, error);
  }
  report.splits.push_back(std::move(split));
  return dataset;
}

}  // namespace

DataReport data_report(const DataConfig& config, const ReportOptions& options) {
  DataReport report;
  std::unique_ptr<Dataset> train;
  for (const std::string& name : split_names(config)) {
    std::unique_ptr<Dataset> dataset = report_split(name, config, options, report);
    if (dataset && train) {
      try {
        require_same_classes(*train, *dataset);
      } catch (const comm::Error& error) {
        if (report.splits.back().problem.empty()) report.splits.back().problem = error.what();
        if (name == "val") keep_first(report.stop, error);
      }
    }
    if (name == "train") train = std::move(dataset);
  }
  return report;
}

}  // namespace trainer
