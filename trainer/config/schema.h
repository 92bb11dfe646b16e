#pragma once

#include <functional>
#include <string>
#include <vector>

#include "trainer/config/config.h"
#include "trainer/config/load.h"
#include "trainer/config/tree.h"
#include "trainer/config/value.h"

// The one table of keys: parsing, validation, `config keys`, printing and resume checks read it, so
// a new key is one member in config.h and one row here. Type and default come from the member.
namespace trainer {

// Where a key has an effect; empty `text` means everywhere.
struct Applies {
  std::string text;  // "fcn with head dilated"
  std::function<bool(const Config&)> test;
};

struct RowInfo {
  KeyClass cls = KeyClass::kRuntime;
  std::string meaning;  // with unit
  Limits limits = {};
  Applies applies = {};
  bool strict = false;        // given where it does not apply: an error, else a notice
  std::string resolved = {};  // how the default is found, when it is not the member's initialiser
};

template <typename S>
struct Row {
  std::string key;  // relative to S, dots between levels
  std::string type;
  RowInfo info;
  bool optional;                               // has an absent state, accepts null
  std::function<void(const Node&, S&)> read;   // throws ValueError
  std::function<std::string(const S&)> print;  // flow YAML; "-" when absent
  std::function<bool(const S&)> present;       // false: nothing to print
  std::function<void(const S& from, S& to)> assign;
};

template <typename T>
constexpr bool is_optional = false;
template <typename T>
constexpr bool is_optional<std::optional<T>> = true;

// `get` returns the member's reference: [](auto& s) -> auto& { return s.member; }
template <typename S, typename Get>
Row<S> make_row(std::string key, Get get, RowInfo info) {
  using T = std::remove_cvref_t<decltype(get(std::declval<S&>()))>;
  Row<S> row;
  row.key = std::move(key);
  row.type = TypeName<T>::get();
  row.optional = is_optional<T>;
  row.read = [get, limits = info.limits](const Node& n, S& s) { read_value(n, limits, get(s)); };
  row.print = [get](const S& s) { return print_value(get(s)); };
  row.present = [get](const S& s) {
    if constexpr (is_optional<T>) return get(s).has_value();
    return true;
  };
  row.assign = [get](const S& from, S& to) { get(to) = get(from); };
  row.info = std::move(info);
  return row;
}

// Everything but the two composite keys below, in the order of the printed file.
const std::vector<Row<Config>>& schema();
// data.NAME: of one split; regularization.rules: of one rule.
const std::vector<Row<SplitConfig>>& split_schema();
const std::vector<Row<Rule>>& rule_schema();

const std::string& split_prefix();  // "data."
const std::string& rules_key();     // "regularization.rules"

// Who may change data.SPLIT.KEY on resume.
KeyClass split_class(const std::string& split, const std::string& key);

bool applies(const Row<Config>& row, const Config& config);

// The parts of schema(), a file each.
std::vector<Row<Config>> model_rows();
std::vector<Row<Config>> data_rows();
std::vector<Row<Config>> training_rows();
std::vector<Row<Config>> runtime_rows();

}  // namespace trainer

// One member as a row: its path in the struct is its key.
#define RIDGELINE_ROW(S, path, ...) \
  ::trainer::make_row<S>(           \
      #path, [](auto& s) -> auto& { return s.path; }, ::trainer::RowInfo{__VA_ARGS__})
