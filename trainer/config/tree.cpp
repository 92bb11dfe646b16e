#include "trainer/config/tree.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "comm/error.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using comm::ExitCode;
using Kind = Node::Kind;

constexpr size_t kMaxBaseDepth = 8;
constexpr int kMaxFiles = 64;

std::string read_text(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error))
    comm::fail(ExitCode::kInputMissing, "{}: no such configuration file", path.string());
  std::ifstream file(path, std::ios::binary);
  if (!fs::is_regular_file(path, error) || !file)
    comm::fail(ExitCode::kInputMissing, "{}: cannot be read as a file", path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

void erase(Node& map, std::string_view key) {
  std::erase_if(map.entries, [&](const Entry& entry) { return entry.key == key; });
}

// The paths in `_base_`, which is one or a list; the entry is removed.
std::vector<Node> take_bases(Node& root) {
  Node* node = root.find("_base_");
  if (!node) return {};
  std::vector<Node> bases =
      node->kind == Kind::kList ? std::move(node->items) : std::vector<Node>{*node};
  for (const Node& base : bases)
    if (base.kind != Kind::kScalar)
      comm::fail(ExitCode::kConfig, "{}: _base_: must be a file or a list of files", base.origin);
  erase(root, "_base_");
  return bases;
}

class TreeLoader {
 public:
  Node load(const fs::path& path) {
    if (++num_files_ > kMaxFiles || open_.size() > kMaxBaseDepth)
      comm::fail(ExitCode::kConfig, "{}: _base_: more than {} levels or {} files of bases",
                 path.string(), kMaxBaseDepth, kMaxFiles);
    Node own = parse_yaml(read_text(path), path.string());
    if (own.kind == Kind::kNull) own.kind = Kind::kMap;
    if (own.kind != Kind::kMap)
      comm::fail(ExitCode::kConfig, "{}: a configuration is a map, as in 'model: {{name: fcn}}'",
                 own.origin);
    open_.push_back(fs::weakly_canonical(path));
    Node result;
    result.kind = Kind::kMap;
    result.origin = own.origin;
    for (const Node& base : take_bases(own)) merge_tree(result, load_base(path, base));
    merge_tree(result, std::move(own));
    open_.pop_back();
    return result;
  }

 private:
  Node load_base(const fs::path& includer, const Node& base) {
    const fs::path path = (includer.parent_path() / base.text).lexically_normal();
    std::error_code error;
    if (!fs::exists(path, error))
      comm::fail(ExitCode::kInputMissing, "{}: _base_: {} does not exist (relative to this file)",
                 base.origin, quote(path.string()));
    if (std::count(open_.begin(), open_.end(), fs::weakly_canonical(path)))
      comm::fail(ExitCode::kConfig, "{}: _base_: {} includes itself", base.origin,
                 quote(path.string()));
    return load(path);
  }

  std::vector<fs::path> open_;
  int num_files_ = 0;
};

void set_origin(Node& node, const std::string& origin) {
  node.origin = origin;
  for (Node& item : node.items) set_origin(item, origin);
  for (Entry& entry : node.entries) set_origin(entry.value, origin);
}

// {"a", "b"} and value -> {a: {b: value}}
Node nest(const std::vector<std::string>& keys, Node value) {
  for (auto key = keys.rbegin(); key != keys.rend(); ++key) {
    Node map;
    map.kind = Kind::kMap;
    map.origin = value.origin;
    map.entries.push_back({*key, std::move(value)});
    value = std::move(map);
  }
  return value;
}

std::vector<std::string> split_key(const std::string& key, const std::string& argument) {
  std::vector<std::string> keys;
  std::istringstream stream(key + ".");
  for (std::string part; std::getline(stream, part, '.');) {
    if (part.empty())
      comm::fail(ExitCode::kUsage, "{}: expected KEY=VALUE, as in optimizer.lr=0.02",
                 quote(argument));
    keys.push_back(part);
  }
  return keys;
}

Node parse_value(const std::string& text, const std::string& key) {
  try {
    return parse_yaml(text, "");
  } catch (const comm::Error& e) {
    const std::string_view place = "command line: ";
    comm::fail(e.code(), "{}{}: {}", place, key, e.what() + place.size());
  }
}

// The value of ${inside}; `key` and `origin` are for the message.
std::string variable(const std::string& inside, const std::string& key, const Node& node) {
  const size_t dash = inside.find(":-");
  const std::string name = inside.substr(0, dash);
  const auto is_word = [](unsigned char c) { return std::isalnum(c) || c == '_'; };
  if (name.empty() || !std::all_of(name.begin(), name.end(), is_word))
    comm::fail(ExitCode::kConfig, "{}: {}: {} is not a variable; write ${{NAME}} or {}",
               node.origin, key, quote("${" + inside + "}"), "${NAME:-default}");
  const char* value = std::getenv(name.c_str());
  if (dash != std::string::npos) return value && *value ? value : inside.substr(dash + 2);
  if (!value)
    comm::fail(ExitCode::kConfig, "{}: {}: environment variable {} is not set; set it or write {}",
               node.origin, key, name, "${" + name + ":-default}");
  return value;
}

void expand_scalar(Node& node, const std::string& key) {
  std::string result;
  size_t done = 0;
  for (size_t at; (at = node.text.find("${", done)) != std::string::npos;) {
    if (at > done && node.text[at - 1] == '$') {
      result += node.text.substr(done, at - 1 - done) + "${";
      done = at + 2;
      continue;
    }
    const size_t end = node.text.find('}', at);
    if (end == std::string::npos)
      comm::fail(ExitCode::kConfig, "{}: {}: '${{' without '}}' in {}", node.origin, key,
                 quote(node.text));
    result += node.text.substr(done, at - done);
    result += variable(node.text.substr(at + 2, end - at - 2), key, node);
    done = end + 1;
    node.quoted = false;  // "${LR}" in quotes may be a number: flow lists need the quotes
  }
  node.text = result + node.text.substr(done);
}

}  // namespace

Node load_tree(const std::string& path) { return TreeLoader().load(path); }

void merge_tree(Node& base, Node layer) {
  for (Entry& entry : layer.entries) {
    Node* old = base.find(entry.key);
    if (!old) {
      base.entries.push_back(std::move(entry));
    } else if (old->kind == Kind::kMap && entry.value.kind == Kind::kMap) {
      if (entry.key == "train") {
        const bool epochs = entry.value.find("epochs"), steps = entry.value.find("steps");
        if (epochs != steps) erase(*old, epochs ? "steps" : "epochs");
      }
      merge_tree(*old, std::move(entry.value));
    } else {
      *old = std::move(entry.value);
    }
  }
}

void apply_overrides(Node& root, std::span<const std::string> overrides) {
  for (const std::string& argument : overrides) {
    const size_t equals = argument.find('=');
    if (equals == std::string::npos)
      comm::fail(ExitCode::kUsage, "{}: expected KEY=VALUE, as in optimizer.lr=0.02",
                 quote(argument));
    const std::vector<std::string> keys = split_key(argument.substr(0, equals), argument);
    const std::string text = argument.substr(equals + 1);
    Node value;
    value.kind = Kind::kScalar;
    if (!text.empty()) value = parse_value(text, argument.substr(0, equals));
    set_origin(value, "command line");
    // Removing the old node first makes the merge a replacement.
    Node* parent = &root;
    for (size_t i = 0; i + 1 < keys.size() && parent; ++i) parent = parent->find(keys[i]);
    if (parent) erase(*parent, keys.back());
    merge_tree(root, nest(keys, std::move(value)));
  }
}

void expand_environment(Node& node, const std::string& key) {
  if (node.kind == Kind::kScalar) expand_scalar(node, key);
  for (Node& item : node.items) expand_environment(item, key);
  for (Entry& entry : node.entries)
    expand_environment(entry.value, key.empty() ? entry.key : key + "." + entry.key);
}

}  // namespace trainer
