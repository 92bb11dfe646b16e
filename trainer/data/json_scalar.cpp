#include "trainer/data/json_scalar.h"

#include <fmt/format.h>

#include <charconv>

#include "trainer/data/anomalies.h"

namespace trainer {

std::string shown(const JsonScalar& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&value)) return fmt::format("{}", *real);
  if (const auto* text = std::get_if<std::string_view>(&value)) return trainer::quoted(*text);
  return "null";
}

std::optional<double> as_number(const JsonScalar& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* real = std::get_if<double>(&value)) return *real;
  return std::nullopt;
}

std::optional<std::int64_t> as_integer(const JsonScalar& value) {
  constexpr double kLargestWhole = 9007199254740992.0;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  const auto* real = std::get_if<double>(&value);
  if (real == nullptr || !(std::abs(*real) <= kLargestWhole) || std::trunc(*real) != *real) {
    return std::nullopt;
  }
  return static_cast<std::int64_t>(*real);
}

std::optional<std::int64_t> as_id(const JsonScalar& value) {
  const auto* text = std::get_if<std::string_view>(&value);
  if (text == nullptr) return as_integer(value);
  std::int64_t id = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), id);
  if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return id;
}

std::optional<bool> as_flag(const JsonScalar& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag;
  const std::optional<std::int64_t> integer = as_integer(value);
  if (!integer || *integer < 0 || *integer > 1) return std::nullopt;
  return *integer == 1;
}

}  // namespace trainer
