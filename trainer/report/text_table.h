#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trainer {

enum class Align { kLeft, kRight };

// Columns of fixed width for terminals and logs.
//   name                 shape  l2
//   -------------------  -----  ----
//   conv1.weight         9408   1e-4
//   -------------------  -----  ----
//   total                9408
class TextTable {
 public:
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };
  explicit TextTable(std::vector<Column> columns);

  // REQUIRES: at most one cell a column; missing ones are empty. Control bytes become \xNN.
  void row(std::vector<std::string> cells);
  void rule();                                 // a line of dashes
  void total(std::vector<std::string> cells);  // a rule and a row

  bool empty() const { return rows_.empty(); }
  // Every line ends with a newline; no trailing blanks.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;  // an empty row is a rule
};

// Columns that UTF-8 text takes on a terminal, one per code point.
int display_width(std::string_view text);
// "1234567" -> "1,234,567".
std::string format_count(long long count);

}  // namespace trainer
