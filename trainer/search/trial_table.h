#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/search/candidates.h"

namespace trainer {

// What became of a trial; undefined numbers are NaN.
struct TrialRow {
  std::string id;
  Values values;
  std::int64_t seed = 0;
  int fold = 0, rung = 0;
  std::int64_t steps = 0;
  double metric = 0;        // of the held-out samples, at the last step
  double train_metric = 0;  // the same metric on training samples
  double loss = 0;          // of the last step
  double seconds = 0;
  int code = 0;        // exit code of its failure; 0: done
  std::string reason;  // of the failure
  bool operator==(const TrialRow&) const = default;
};

// By trial id; of several lines of one trial the last counts.
using TrialRows = std::map<std::string, TrialRow>;

// DIR/trials.csv as text (RFC 4180, a header, "\n"). Reading leaves out a last line without a
// newline, which a killed writer left. Errors: kCheckpointRefused naming the line when another
// line is malformed or the header names other keys.
std::string csv_header(const std::vector<std::string>& keys);
std::string csv_line(const TrialRow& row);
TrialRows read_csv(std::string_view text, const std::vector<std::string>& keys);

// The file that all groups of a search append to, one line at a time under flock. Lines are on the
// disk when `append` returns. Errors: kIo.
class TrialTable {
 public:
  TrialTable(std::filesystem::path file, std::vector<std::string> keys);

  // Cuts off a torn last line and writes the header of an empty file. REQUIRES: the only writer.
  void repair() const;
  void append(const TrialRow& row) const;
  std::string text() const;  // what is on the disk; empty when there is no file

 private:
  std::filesystem::path file_;
  std::vector<std::string> keys_;
};

}  // namespace trainer
