#include "trainer/config/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

namespace trainer {
namespace {

using Kind = Node::Kind;

std::string describe(const Node& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a map";
    case Kind::kScalar:
      break;
  }
  return (node.quoted ? "the text " : "") + quote(node.text);
}

[[noreturn]] void expected(const std::string& what, const Node& node) {
  throw ValueError(fmt::format("expected {}, got {}", what, describe(node)));
}

bool is_number(std::string_view text) {
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+');
  text.remove_prefix(sign);
  const auto digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  if (text.size() > 1 && text[0] == '0' && digit(1))
    return false;  // 010 is 8 to some, 10 to others
  return digit(0) || (text.size() > 1 && text[0] == '.' && digit(1));
}

double parse_number(const Node& node, const std::string& what) {
  if (node.kind != Kind::kScalar || node.quoted || !is_number(node.text)) expected(what, node);
  std::string_view text = node.text;
  if (text[0] == '+') text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range)
    throw ValueError(fmt::format("{} is beyond double precision", quote(node.text)));
  if (error != std::errc() || end != text.data() + text.size()) expected(what, node);
  return value;
}

void check_limits(double value, const std::string& text, const Limits& limits) {
  const bool outside = limits.open ? value <= limits.low || value >= limits.high
                                   : value < limits.low || value > limits.high;
  if (outside) throw ValueError(fmt::format("is {}, must be {}", text, limits_text(limits)));
}

// As JSON, which YAML's double quotes contain; "${" is kept from expansion.
std::string in_quotes(const std::string& text) {
  std::string result = "\"";
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (text[i] == '"' || text[i] == '\\')
      result += std::string("\\") + text[i];
    else if (byte < 0x20 || byte == 0x7f)
      result += fmt::format("\\x{:02x}", byte);
    else if (text.compare(i, 2, "${") == 0)
      result += "$$";
    else
      result += text[i];
  }
  return result + "\"";
}

}  // namespace

std::string limits_text(const Limits& limits) {
  const bool low = std::isfinite(limits.low), high = std::isfinite(limits.high);
  if (low && high)
    return limits.open ? fmt::format("in ({}, {})", limits.low, limits.high)
                       : fmt::format("{}..{}", limits.low, limits.high);
  if (low) return fmt::format("{} {}", limits.open ? ">" : ">=", limits.low);
  if (high) return fmt::format("{} {}", limits.open ? "<" : "<=", limits.high);
  return "";
}

void read_value(const Node& node, const Limits&, bool& value) {
  const bool is_true = node.text == "true", is_false = node.text == "false";
  if (node.kind != Kind::kScalar || node.quoted || is_true == is_false)
    expected("true or false", node);
  value = is_true;
}

void read_value(const Node& node, const Limits& limits, int64_t& value) {
  constexpr double kExact = 9007199254740992.0;  // 2^53: above it doubles skip integers
  const double number = parse_number(node, "an integer");
  if (number != std::floor(number) || std::abs(number) > kExact) expected("an integer", node);
  check_limits(number, node.text, limits);
  value = static_cast<int64_t>(number);
}

void read_value(const Node& node, const Limits& limits, int& value) {
  int64_t wide = 0;
  read_value(node, limits, wide);
  if (wide > std::numeric_limits<int>::max() || wide < std::numeric_limits<int>::min())
    throw ValueError(fmt::format("is {}, too large", node.text));
  value = static_cast<int>(wide);
}

void read_value(const Node& node, const Limits& limits, double& value) {
  const double number = parse_number(node, "a number");
  check_limits(number, node.text, limits);
  value = number;
}

void read_value(const Node& node, const Limits&, std::string& value) {
  if (node.kind != Kind::kScalar) expected("text", node);
  value = node.text;
}

void read_value(const Node& node, const Limits& limits, std::vector<InputSize>& value) {
  const auto read_size = [&](const Node& pair) {
    std::vector<int> sides;
    if (pair.kind != Kind::kList) expected("[H, W] or a list of those", pair);
    read_value(pair, {.low = limits.low, .high = limits.high}, sides);
    if (sides.size() != 2) throw ValueError("expected two numbers, height and width");
    return InputSize{sides[0], sides[1]};
  };
  const bool is_list =
      node.kind == Kind::kList && (node.items.empty() || node.items[0].kind == Kind::kList);
  if (!is_list) {
    value = {read_size(node)};
    return;
  }
  require_list(node, limits, "[H, W]");
  std::vector<InputSize> sizes;
  for (const Node& item : node.items) sizes.push_back(read_size(item));
  value = std::move(sizes);
}

int read_name(const Node& node, std::span<const std::string_view> names) {
  std::string all;
  for (const std::string_view name : names)
    all += fmt::format("{}{}", all.empty() ? "" : ", ", name);
  if (node.kind != Kind::kScalar) expected("one of " + all, node);
  const auto found = std::find(names.begin(), names.end(), node.text);
  if (found != names.end()) return static_cast<int>(found - names.begin());
  const std::vector<std::string> known(names.begin(), names.end());
  const std::string near = did_you_mean(node.text, known);
  throw ValueError(fmt::format("{} is not one of {}{}", quote(node.text), all,
                               near.empty() ? "" : "; did you mean '" + near + "'"));
}

void require_list(const Node& node, const Limits& limits, const std::string& element) {
  if (node.kind != Kind::kList) expected("a list of " + element, node);
  const size_t count = node.items.size();
  if (count >= limits.min_items && count <= limits.max_items) return;
  throw ValueError(limits.min_items == limits.max_items
                       ? fmt::format("has {} elements, must have {}", count, limits.min_items)
                       : fmt::format("has {} elements, must have {} to {}", count, limits.min_items,
                                     limits.max_items));
}

std::string print_value(bool value) { return value ? "true" : "false"; }
std::string print_value(int64_t value) { return fmt::format("{}", value); }
std::string print_value(double value) { return fmt::format("{}", value); }
std::string print_value(const InputSize& value) {
  return fmt::format("[{}, {}]", value.height, value.width);
}

std::string print_value(const std::vector<InputSize>& value) {
  if (value.size() == 1) return print_value(value[0]);
  std::string text;
  for (const InputSize& size : value) text += (text.empty() ? "" : ", ") + print_value(size);
  return "[" + text + "]";
}

std::string print_value(const std::string& value) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '/' || c == '.' || c == '-';
  };
  const bool is_plain = !value.empty() && value[0] != '-' &&
                        std::all_of(value.begin(), value.end(), plain) && value != "null" &&
                        value != "Null" && value != "NULL" && value != "...";
  return is_plain ? value : in_quotes(value);
}

}  // namespace trainer
