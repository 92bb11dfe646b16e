#include "trainer/search/over.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "comm/error.h"
#include "trainer/config/schema.h"
#include "trainer/config/tree.h"

namespace trainer {
namespace {

constexpr int kMaxCount = 10000;

[[noreturn]] void malformed(const std::string& text, const std::string& what) {
  comm::fail(comm::ExitCode::kUsage,
             "--over {}: {}; write KEY=LOW..HIGH:log:COUNT, KEY=LOW..HIGH:linear:COUNT or "
             "KEY=A,B,C, such as regularization.l2=1e-6..1e-1:log:11",
             quote(text), what);
}

double number_of(const std::string& text, const std::string& whole, const char* name) {
  const std::optional<double> value = as_number(text);
  if (!value) malformed(whole, fmt::format("{} is {}, not a number", name, quote(text)));
  return *value;
}

// At commas outside brackets.
std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += c == '[' || c == '{';
    depth -= c == ']' || c == '}';
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

void parse_range(const std::string& text, const std::string& range, Over& over) {
  const std::size_t dots = range.find("..");
  const std::size_t colon = range.find(':', dots);
  if (colon == std::string::npos) malformed(text, "the scale, log or linear, is missing");
  over.low = number_of(range.substr(0, dots), text, "LOW");
  over.high = number_of(range.substr(dots + 2, colon - dots - 2), text, "HIGH");
  const std::size_t second = range.find(':', colon + 1);
  const std::string scale = range.substr(colon + 1, second - colon - 1);
  if (scale != "log" && scale != "linear")
    malformed(text, fmt::format("the scale is {}, not log or linear", quote(scale)));
  over.scale = scale == "log" ? Scale::kLog : Scale::kLinear;
  if (over.low >= over.high) malformed(text, "LOW must be less than HIGH");
  if (over.scale == Scale::kLog && over.low <= 0)
    malformed(text, "a log scale begins above 0; use linear, or a list");
  if (second == std::string::npos) return;
  const double count = number_of(range.substr(second + 1), text, "COUNT");
  if (count != std::floor(count) || count < 2 || count > kMaxCount)
    malformed(text, fmt::format("COUNT must be a whole number from 2 to {}", kMaxCount));
  over.count = static_cast<int>(count);
}

std::string format(const Over& over, double value) {
  return over.integer ? fmt::format("{}", std::llround(value)) : fmt::format("{:.6g}", value);
}

double between(const Over& over, double share) {
  if (over.scale == Scale::kLinear) return over.low + share * (over.high - over.low);
  return std::exp(std::log(over.low) + share * (std::log(over.high) - std::log(over.low)));
}

}  // namespace

Over parse_over(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) malformed(text, "there is no KEY=");
  Over over;
  over.key = text.substr(0, equals);
  const std::string values = text.substr(equals + 1);
  if (over.key == "train.seed") malformed(text, "seeds are what --seeds counts");
  for (const Row<Config>& row : schema()) {
    if (row.key == over.key) over.integer = row.type == "integer";
  }
  if (values.find("..") != std::string::npos) {
    parse_range(text, values, over);
    return over;
  }
  over.listed = split_list(values);
  if (over.listed.size() < 2) malformed(text, "one value is no choice");
  for (std::size_t i = 0; i < over.listed.size(); ++i) {
    const std::string& value = over.listed[i];
    if (value.empty()) malformed(text, "a value is empty");
    const auto end = over.listed.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(over.listed.begin(), end, value) != end)
      malformed(text, fmt::format("{} stands twice", quote(value)));
  }
  return over;
}

std::vector<std::string> grid_values(const Over& over) {
  if (!over.listed.empty()) return over.listed;
  REQUIRE(over.count >= 2, "count {}", over.count);
  std::vector<std::string> values;
  for (int i = 0; i < over.count; ++i) {
    // The ends exactly, not through a logarithm and back.
    const double value = i == 0                ? over.low
                         : i + 1 == over.count ? over.high
                                               : between(over, i / (over.count - 1.0));
    const std::string shown = format(over, value);
    if (values.empty() || values.back() != shown) values.push_back(shown);
  }
  return values;
}

std::string value_at(const Over& over, double u) {
  if (over.listed.empty()) return format(over, between(over, u));
  const auto size = static_cast<double>(over.listed.size());
  return over.listed[static_cast<std::size_t>(std::min(u * size, size - 1))];
}

std::optional<double> as_number(const std::string& value) {
  double number = 0;
  const char* const end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc() || rest != end || !std::isfinite(number)) return std::nullopt;
  return number;
}

bool is_regularizer(const std::string& key) {
  constexpr std::array kKeys = {"regularization.l2", "regularization.l1",
                                "regularization.end_factor", "model.dropout",
                                "model.label_smoothing"};
  return std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
}

}  // namespace trainer
