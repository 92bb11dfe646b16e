#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace trainer {

// A JSON value without members. NaN and Infinity, which JSON forbids but Python writes, are
// numbers.
using JsonScalar = std::variant<std::monostate, bool, std::int64_t, double, std::string_view>;

// As a message shows it: null, true, 12, 0.5, "text".
std::string shown(const JsonScalar& value);

std::optional<double> as_number(const JsonScalar& value);
// Whole numbers, also as 12.0 (up to 2^53).
std::optional<std::int64_t> as_integer(const JsonScalar& value);
// A whole number or its decimal string.
std::optional<std::int64_t> as_id(const JsonScalar& value);
// true, false, 0 or 1.
std::optional<bool> as_flag(const JsonScalar& value);

}  // namespace trainer
