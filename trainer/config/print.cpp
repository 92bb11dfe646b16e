#include <fmt/format.h>

#include "trainer/config/load.h"
#include "trainer/config/schema.h"

namespace trainer {
namespace {

// Emits "a.b.c: value" lines as nested YAML; consecutive keys share the sections they have in
// common.
class NestedWriter {
 public:
  explicit NestedWriter(const Origins& origins) : origins_(origins) {}

  void add(const std::string& key, const std::string& value) {
    const std::string indent = enter(key);
    text_ +=
        fmt::format("{}{}: {}{}\n", indent, key.substr(key.rfind('.') + 1), value, comment(key));
  }

  // `items` one a line, in flow style.
  void add_list(const std::string& key, const std::vector<std::string>& items) {
    if (items.empty()) return add(key, "[]");
    const std::string indent = enter(key);
    text_ += fmt::format("{}{}:{}\n", indent, key.substr(key.rfind('.') + 1), comment(key));
    for (const std::string& item : items) text_ += fmt::format("{}  - {}\n", indent, item);
  }

  // An empty map, so that its presence is kept.
  void add_empty(const std::string& key) {
    text_ += fmt::format("{}{}: {{}}\n", enter(key), key.substr(key.rfind('.') + 1));
  }

  std::string take() { return std::move(text_); }

 private:
  std::string comment(const std::string& key) const {
    const auto found = origins_.find(key);
    return found == origins_.end() ? "" : "  # " + escape(found->second);
  }

  // Opens the sections of `key` that are not open yet; returns the indentation of its last word.
  std::string enter(const std::string& key) {
    std::string indent;
    size_t begin = 0;
    for (size_t dot; (dot = key.find('.', begin)) != std::string::npos; begin = dot + 1) {
      const std::string section = key.substr(0, dot + 1);
      if (!open_.starts_with(section))
        text_ += fmt::format("{}{}:\n", indent, print_value(key.substr(begin, dot - begin)));
      indent += "  ";
    }
    open_ = key.substr(0, begin);
    return indent;
  }

  const Origins& origins_;
  std::string text_;
  std::string open_;  // "data.train." while inside it
};

// {match: {name: fpn.*}, l2: 0}
std::string print_rule(const Rule& rule) {
  static const Rule empty;
  std::string match, rest;
  for (const Row<Rule>& row : rule_schema()) {
    if (!row.present(rule) || row.print(rule) == row.print(empty)) continue;
    const bool in_match = row.key.starts_with("match.");
    std::string& part = in_match ? match : rest;
    part += fmt::format("{}{}: {}", in_match && part.empty() ? "" : ", ",
                        in_match ? row.key.substr(6) : row.key, row.print(rule));
  }
  return fmt::format("{{match: {{{}}}{}}}", match, rest);
}

std::vector<std::string> print_rules(const std::vector<Rule>& rules) {
  std::vector<std::string> lines;
  for (const Rule& rule : rules) lines.push_back(print_rule(rule));
  return lines;
}

void add_splits(const Config& config, NestedWriter& writer) {
  for (const auto& [name, split] : config.data.splits) {
    const std::string key = split_prefix() + name;
    if (split == SplitConfig()) writer.add_empty(key);
    for (const Row<SplitConfig>& row : split_schema())
      if (row.present(split) && row.print(split) != row.print({}))
        writer.add(key + "." + row.key, row.print(split));
  }
}

}  // namespace

std::string resolved_yaml(const Config& config, const Origins& origins) {
  NestedWriter writer(origins);
  const auto& rows = schema();
  for (size_t i = 0; i < rows.size(); ++i) {
    if (applies(rows[i], config) && rows[i].present(config))
      writer.add(rows[i].key, rows[i].print(config));
    const std::string section = rows[i].key.substr(0, rows[i].key.find('.') + 1);
    const bool last = i + 1 == rows.size() || !rows[i + 1].key.starts_with(section);
    if (last && section == split_prefix()) add_splits(config, writer);
    if (last && rules_key().starts_with(section) && config.regularization.rules && !section.empty())
      writer.add_list(rules_key(), print_rules(*config.regularization.rules));
  }
  return writer.take();
}

std::vector<KeyValue> key_values(const Config& config) {
  static const Config defaults;
  std::vector<KeyValue> result;
  for (const Row<Config>& row : schema()) {
    if (!applies(row, config)) continue;
    const std::string value = row.print(config);
    result.push_back({row.key, value, row.info.cls, value == row.print(defaults)});
  }
  for (const auto& [name, split] : config.data.splits)
    for (const Row<SplitConfig>& row : split_schema())
      result.push_back(
          {split_prefix() + name + "." + row.key, row.print(split), split_class(name, row.key)});
  std::string rules = "-";
  if (config.regularization.rules) {
    rules.clear();
    for (const std::string& rule : print_rules(*config.regularization.rules))
      rules += (rules.empty() ? "" : ", ") + rule;
    rules = "[" + rules + "]";
  }
  result.push_back({rules_key(), rules, KeyClass::kIdentity});
  return result;
}

}  // namespace trainer
