#include "trainer/config/read.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <functional>

#include "trainer/config/schema.h"
#include "trainer/config/suggest.h"

namespace trainer {
namespace {

using Kind = Node::Kind;

constexpr const char* kWeightDecay =
    "not a key: L2 lives in regularization.l2 alone, so that nothing is decayed twice; PyTorch's "
    "weight_decay c is 'regularization: {l2: c, rules: []}', AdamW's adds 'mode: decoupled', "
    "Keras' l2(c) is 'convention: full'";

// A key as messages show it: itself, unless it could garble the line.
std::string shown(const std::string& key) {
  const auto harmless = [](unsigned char c) { return c > 0x20 && c != 0x7f && c != '\''; };
  const bool plain = key.size() <= 40 && std::all_of(key.begin(), key.end(), harmless);
  return plain && !key.empty() ? key : quote(key);
}

std::string leaf(const std::string& key) { return key.substr(key.rfind('.') + 1); }

// The words that may follow `prefix` ("model." or "") in the keys of `rows`.
template <typename S>
std::vector<std::string> children(const std::vector<Row<S>>& rows, const std::string& prefix) {
  std::vector<std::string> words;
  for (const Row<S>& row : rows) {
    if (!row.key.starts_with(prefix)) continue;
    const std::string rest = row.key.substr(prefix.size());
    const std::string word = rest.substr(0, rest.find('.'));
    if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
  }
  return words;
}

// Reads one map into S by its rows. `path` is how messages name S ("data.train.", "" for Config).
template <typename S>
struct MapReader {
  const std::vector<Row<S>>& rows;
  std::string path;
  S& target;
  Origins* origins;  // may be null
  std::vector<std::string>& problems;
  // Keys outside the rows; true when it took the entry. May be empty.
  std::function<bool(const Entry&, const std::string& key)> other = {};
  std::map<std::string, std::vector<std::string>> other_words = {};  // of `other`, by prefix

  void complain(const Entry& entry, const std::string& key, const std::string& what) {
    problems.push_back(fmt::format("{}: {}: {}", entry.value.origin, path + key, what));
  }

  void read(const Node& map, const std::string& prefix = "") {
    for (const Entry& entry : map.entries) read_entry(entry, prefix, prefix + entry.key);
  }

  void read_entry(const Entry& entry, const std::string& prefix, const std::string& key) {
    const auto row =
        std::find_if(rows.begin(), rows.end(), [&](const Row<S>& r) { return r.key == key; });
    const bool dotted = entry.key.find('.') != std::string::npos;  // "optimizer.lr: 1" is no key
    if (row != rows.end() && !dotted) {
      try {
        row->read(entry.value, target);
        if (origins) (*origins)[path + key] = entry.value.origin;
      } catch (const ValueError& e) {
        complain(entry, key, e.what());
      }
    } else if (entry.key == "weight_decay") {
      complain(entry, key, kWeightDecay);
    } else if (other && other(entry, key)) {
      return;
    } else if (!children(rows, key + ".").empty()) {
      if (entry.value.kind == Kind::kMap) return read(entry.value, key + ".");
      complain(entry, key,
               "expected a map of its keys, as in '" + entry.key + ": {" +
                   children(rows, key + ".").front() + ": ...}'");
    } else {
      complain(entry, prefix + shown(entry.key), unknown(entry, prefix));
    }
  }

  std::string unknown(const Entry& entry, const std::string& prefix) {
    if (entry.key.find('.') != std::string::npos)
      return "unknown key; dots are for the command line, write it nested";
    std::vector<std::string> siblings = children(rows, prefix);
    const std::vector<std::string>& more = other_words[prefix];
    siblings.insert(siblings.end(), more.begin(), more.end());
    std::string near = did_you_mean(entry.key, siblings);
    if (!near.empty()) near = path + prefix + near;
    for (const Row<S>& row : rows)
      if (near.empty() && leaf(row.key) == entry.key) near = path + row.key;
    return "unknown key" + (near.empty() ? "; 'ridgeline config keys' lists all of them"
                                         : "; did you mean '" + near + "'");
  }
};

const std::vector<std::string>& usual_splits() {
  static const std::vector<std::string> names = {"train", "val", "test"};
  return names;
}

class ConfigReader {
 public:
  ConfigReader(LoadedConfig& loaded, std::vector<std::string>& problems)
      : loaded_(loaded), problems_(problems), words_(children(schema(), split_prefix())) {
    words_.insert(words_.end(), usual_splits().begin(), usual_splits().end());
  }

  void read(const Node& root) {
    MapReader<Config> reader{schema(), "", loaded_.config, &loaded_.origins, problems_};
    reader.other = [&](const Entry& entry, const std::string& key) {
      if (key == rules_key()) return read_rules(entry.value), true;
      if (key != split_prefix() + entry.key || !is_split(entry)) return false;
      read_split(entry);
      return true;
    };
    reader.other_words = {{split_prefix(), usual_splits()}, {"regularization.", {"rules"}}};
    reader.read(root);
  }

 private:
  // A split may have any name, so a map under `data` is one unless it looks like a slip of the pen.
  bool is_split(const Entry& entry) const {
    const auto is_word = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; };
    if (!std::all_of(entry.key.begin(), entry.key.end(), is_word)) return false;
    for (const std::string& usual : usual_splits()) {
      if (entry.key == usual) return true;  // with another kind of value: a wrong type
      if (entry.key.starts_with(usual)) return entry.value.kind == Kind::kMap;
    }
    return entry.value.kind == Kind::kMap && did_you_mean(entry.key, words_).empty();
  }

  void read_split(const Entry& entry) {
    const std::string path = split_prefix() + entry.key + ".";
    if (entry.value.kind == Kind::kNull) return;  // a base's split that there is not here
    if (entry.value.kind != Kind::kMap) {
      problems_.push_back(fmt::format("{}: {}: expected a map, as in '{{images: DIR}}'",
                                      entry.value.origin, split_prefix() + entry.key));
      return;
    }
    MapReader<SplitConfig> reader{split_schema(), path, loaded_.config.data.splits[entry.key],
                                  &loaded_.origins, problems_};
    reader.read(entry.value);
  }

  void read_rules(const Node& node) {
    loaded_.origins[rules_key()] = node.origin;
    if (node.kind == Kind::kNull) return loaded_.config.regularization.rules.reset();
    if (node.kind != Kind::kList) {
      problems_.push_back(fmt::format("{}: {}: expected a list of {{match: {{...}}, l2: ...}}",
                                      node.origin, rules_key()));
      return;
    }
    std::vector<Rule> rules;
    for (const Node& item : node.items) {
      const std::string path = fmt::format("{}[{}].", rules_key(), rules.size());
      Rule& rule = rules.emplace_back();
      rule.origin = item.origin;
      if (item.kind != Kind::kMap || !item.find("match"))
        problems_.push_back(fmt::format("{}: {}match: missing; 'match: {{}}' matches everything",
                                        item.origin, path));
      MapReader<Rule>{rule_schema(), path, rule, nullptr, problems_}.read(item);
    }
    loaded_.config.regularization.rules = std::move(rules);
  }

  LoadedConfig& loaded_;
  std::vector<std::string>& problems_;
  std::vector<std::string> words_;  // a split's name must not look like one of these
};

}  // namespace

std::vector<std::string> read_tree(const Node& root, LoadedConfig& loaded) {
  std::vector<std::string> problems;
  ConfigReader(loaded, problems).read(root);
  return problems;
}

std::string problem(const Origins& origins, const std::string& key, const std::string& what) {
  const auto found = origins.find(key);
  return fmt::format("{}: {}: {}", found == origins.end() ? "default" : found->second, key, what);
}

}  // namespace trainer
