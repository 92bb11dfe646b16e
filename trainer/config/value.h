#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "trainer/config/config.h"
#include "trainer/config/suggest.h"
#include "trainer/config/tree.h"

// How a value of each type is read from a node, printed as flow YAML that reads back to the same
// value, and named in messages.
namespace trainer {

// What is wrong with a value, without its key and place.
struct ValueError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Bounds of numbers (of each element of a list) and of a list's length.
struct Limits {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool open = false;  // low and high themselves are outside
  size_t min_items = 0, max_items = 1000;
};

// "0..1", ">= 1", "> 0", "in (0, 1)"; empty without bounds.
std::string limits_text(const Limits& limits);

// Numbers are strict: no leading zeros, no nan or inf, nothing in quotes; an integer may be written
// 1e3. Throws ValueError.
void read_value(const Node& node, const Limits& limits, bool& value);
void read_value(const Node& node, const Limits& limits, int& value);
void read_value(const Node& node, const Limits& limits, int64_t& value);
void read_value(const Node& node, const Limits& limits, double& value);
void read_value(const Node& node, const Limits& limits, std::string& value);
// [H, W], or a list of those.
void read_value(const Node& node, const Limits& limits, std::vector<InputSize>& value);

// Index of the scalar's text in `names`.
int read_name(const Node& node, std::span<const std::string_view> names);

std::string print_value(bool value);
std::string print_value(int64_t value);
std::string print_value(double value);
std::string print_value(const std::string& value);
std::string print_value(const InputSize& value);
std::string print_value(const std::vector<InputSize>& value);  // one: [H, W]
inline std::string print_value(int value) { return print_value(int64_t{value}); }

void require_list(const Node& node, const Limits& limits, const std::string& element);

template <typename T>
struct TypeName {
  static std::string get() {
    if constexpr (std::is_enum_v<T>) {
      std::string text;
      for (const std::string_view name : EnumNames<T>::names)
        text += (text.empty() ? "" : " | ") + std::string(name);
      return text;
    } else if constexpr (std::is_same_v<T, bool>) {
      return "true | false";
    } else if constexpr (std::is_integral_v<T>) {
      return "integer";
    } else if constexpr (std::is_floating_point_v<T>) {
      return "number";
    } else {
      return "text";
    }
  }
};
template <typename T>
struct TypeName<std::optional<T>> : TypeName<T> {};
template <typename T>
struct TypeName<std::vector<T>> {
  static std::string get() { return "list of " + TypeName<T>::get(); }
};
template <>
struct TypeName<std::vector<InputSize>> {
  static std::string get() { return "[H, W] or list of [H, W]"; }
};

template <typename E>
requires std::is_enum_v<E>
void read_value(const Node& node, const Limits&, E& value) {
  value = static_cast<E>(read_name(node, EnumNames<E>::names));
}

template <typename T>
void read_value(const Node& node, const Limits& limits, std::vector<T>& value) {
  require_list(node, limits, TypeName<T>::get());
  std::vector<T> result(node.items.size());
  for (size_t i = 0; i < result.size(); ++i) {
    try {
      read_value(node.items[i], limits, result[i]);
    } catch (const ValueError& e) {
      throw ValueError("element " + std::to_string(i + 1) + ": " + e.what());
    }
  }
  value = std::move(result);
}

// null means absent.
template <typename T>
void read_value(const Node& node, const Limits& limits, std::optional<T>& value) {
  if (node.kind == Node::Kind::kNull) return value.reset();
  T result{};
  read_value(node, limits, result);
  value = std::move(result);
}

template <typename E>
requires std::is_enum_v<E> std::string print_value(E value) {
  return std::string(to_string(value));
}

template <typename T>
std::string print_value(const std::vector<T>& values) {
  std::string text;
  for (const T& value : values) text += (text.empty() ? "" : ", ") + print_value(value);
  return "[" + text + "]";
}

// "-" when absent: for people, never written to a file.
template <typename T>
std::string print_value(const std::optional<T>& value) {
  return value ? print_value(*value) : "-";
}

}  // namespace trainer
