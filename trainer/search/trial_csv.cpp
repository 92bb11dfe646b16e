#include <charconv>
#include <cmath>
#include <cstdlib>

#include "comm/error.h"
#include "trainer/config/tree.h"
#include "trainer/search/trial_table.h"

namespace trainer {
namespace {

constexpr int kNumFixed = 11;  // columns beside the keys

std::string cell(const std::string& value) {
  if (value.find_first_of(",\"\n\r") == std::string::npos) return value;
  std::string quoted = "\"";
  for (const char c : value) {
    if (c == '\n' || c == '\r') {
      quoted += ' ';  // a record is a line
      continue;
    }
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

std::string cell(double value) { return std::isfinite(value) ? fmt::format("{}", value) : ""; }

std::vector<std::string> cells(std::string_view line) {
  std::vector<std::string> result(1);
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"') {
      if (quoted && i + 1 < line.size() && line[i + 1] == '"')
        result.back() += line[i++];
      else
        quoted = !quoted;
    } else if (line[i] == ',' && !quoted) {
      result.emplace_back();
    } else {
      result.back() += line[i];
    }
  }
  return result;
}

// False when the cell is not a number.
template <typename T>
bool read_cell(const std::string& text, T& value) {
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && rest == end;
}
bool read_measured(const std::string& text, double& value) {
  value = std::nan("");
  return text.empty() || read_cell(text, value);
}

// "done" or "failed 79".
bool read_status(const std::string& text, int& code) {
  code = 0;
  return text == "done" || (text.starts_with("failed ") && read_cell(text.substr(7), code));
}

bool read_row(const std::vector<std::string>& cells, std::size_t num_keys, TrialRow& row) {
  if (cells.size() != num_keys + kNumFixed) return false;
  row.id = cells[0];
  row.values.assign(cells.begin() + 1, cells.begin() + 1 + static_cast<std::ptrdiff_t>(num_keys));
  const std::string* rest = cells.data() + 1 + num_keys;
  row.reason = rest[9];
  return read_cell(rest[0], row.seed) && read_cell(rest[1], row.fold) &&
         read_cell(rest[2], row.rung) && read_cell(rest[3], row.steps) &&
         read_measured(rest[4], row.metric) && read_measured(rest[5], row.train_metric) &&
         read_measured(rest[6], row.loss) && read_measured(rest[7], row.seconds) &&
         read_status(rest[8], row.code);
}

}  // namespace

std::string csv_header(const std::vector<std::string>& keys) {
  std::string line = "trial";
  for (const std::string& key : keys) line += "," + cell(key);
  return line + ",seed,fold,rung,steps,metric,train_metric,loss,seconds,status,reason\n";
}

std::string csv_line(const TrialRow& row) {
  std::string line = row.id;
  for (const std::string& value : row.values) line += "," + cell(value);
  line += fmt::format(",{},{},{},{}", row.seed, row.fold, row.rung, row.steps);
  for (const double value : {row.metric, row.train_metric, row.loss}) line += "," + cell(value);
  line += fmt::format(",{:.3f},{},{}\n", row.seconds,
                      row.code == 0 ? std::string("done") : fmt::format("failed {}", row.code),
                      cell(row.reason));
  return line;
}

TrialRows read_csv(std::string_view text, const std::vector<std::string>& keys) {
  TrialRows rows;
  int number = 0;
  for (std::size_t end; (end = text.find('\n')) != std::string_view::npos;
       text.remove_prefix(end + 1)) {
    const std::string_view line = text.substr(0, end);
    TrialRow row;
    if (++number == 1) {
      if (std::string(line) + "\n" == csv_header(keys)) continue;
      comm::fail(comm::ExitCode::kCheckpointRefused,
                 "trials.csv: its header is {}, not that of this search; choose another --out",
                 quote(line));
    }
    if (!read_row(cells(line), keys.size(), row))
      comm::fail(comm::ExitCode::kCheckpointRefused,
                 "trials.csv, line {}: {} is not a trial; remove the line, the trial runs again",
                 number, quote(line));
    rows[row.id] = row;
  }
  return rows;
}

}  // namespace trainer
