#include "trainer/report/text_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "comm/error.h"
#include "trainer/report/run_log.h"

namespace trainer {

namespace {

constexpr std::string_view kGap = "  ";

void append_padded(std::string& line, const std::string& cell, int width, Align align) {
  const auto num_blanks = static_cast<std::size_t>(width - display_width(cell));
  if (align == Align::kRight) line.append(num_blanks, ' ');
  line += cell;
  if (align == Align::kLeft) line.append(num_blanks, ' ');
}

void end_line(std::string& text) {
  text.erase(text.find_last_not_of(' ') + 1);
  text += '\n';
}

}  // namespace

int display_width(std::string_view text) {
  const auto starts_code_point = [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  };
  return static_cast<int>(std::count_if(text.begin(), text.end(), starts_code_point));
}

std::string format_count(long long count) {
  std::string text = fmt::format("{}", count);
  const std::size_t first_digit = count < 0 ? 1 : 0;
  for (std::size_t i = text.size(); i > first_digit + 3;) text.insert(i -= 3, 1, ',');
  return text;
}

TextTable::TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {
  REQUIRE(!columns_.empty(), "a table without columns");
}

void TextTable::row(std::vector<std::string> cells) {
  REQUIRE(cells.size() <= columns_.size(), "{} cells, {} columns", cells.size(), columns_.size());
  for (std::string& cell : cells) {
    std::replace(cell.begin(), cell.end(), '\n', ' ');
    std::replace(cell.begin(), cell.end(), '\t', ' ');
    cell = escape_control(cell);
  }
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

void TextTable::rule() { rows_.emplace_back(); }

void TextTable::total(std::vector<std::string> cells) {
  rule();
  row(std::move(cells));
}

std::string TextTable::text() const {
  std::vector<int> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    widths.push_back(display_width(columns_[i].title));
    for (const auto& cells : rows_)
      if (!cells.empty()) widths[i] = std::max(widths[i], display_width(cells[i]));
  }
  std::string text;
  const auto add_line = [&](const auto& cell_of) {
    std::string line;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (i > 0) line += kGap;
      append_padded(line, cell_of(i), widths[i], columns_[i].align);
    }
    end_line(line);
    text += line;
  };
  const auto dashes = [&](std::size_t i) {
    return std::string(static_cast<std::size_t>(widths[i]), '-');
  };
  add_line([&](std::size_t i) { return columns_[i].title; });
  add_line(dashes);
  for (const auto& cells : rows_)
    if (cells.empty())
      add_line(dashes);
    else
      add_line([&](std::size_t i) { return cells[i]; });
  return text;
}

}  // namespace trainer
