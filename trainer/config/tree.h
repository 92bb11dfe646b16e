#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

// A configuration before it is understood: a tree of text in which every value knows its place.
namespace trainer {

struct Entry;

struct Node {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  std::string text;            // kScalar
  bool quoted = false;         // kScalar: written in quotes, hence never a number or a truth value
  std::string origin;          // "file:line" or "command line"
  std::vector<Node> items;     // kList
  std::vector<Entry> entries;  // kMap, in file order, keys unique

  Node* find(std::string_view key);
  const Node* find(std::string_view key) const { return const_cast<Node*>(this)->find(key); }
};

struct Entry {
  std::string key;
  Node value;  // its origin is the place of the key
};

// Text with control bytes as \xNN.
std::string escape(std::string_view text);

// Text for a message: in single quotes, control bytes escaped, cut after 60 bytes.
std::string quote(std::string_view text);

// One YAML document as a tree. Refused, with exit code 78 and file:line: anchors and aliases, tags,
// merge keys, duplicate keys, keys that are not words, a second document, control bytes, more than
// 1 MiB, nesting beyond 20 levels. An empty document is an empty map.
// `source` is the file's name; an empty one means the command line, which has no lines.
Node parse_yaml(std::string_view text, const std::string& source);

// `path` with its _base_ files merged underneath. Exit code 66 when a file is missing or
// unreadable, 78 for a cycle or more than 8 levels or 64 files of bases.
Node load_tree(const std::string& path);

// Maps are merged key by key, everything else is replaced by `layer`. A layer that gives only one
// of train.epochs and train.steps removes the other from what lies below it.
void merge_tree(Node& base, Node layer);

// Puts KEY=VALUE into the tree; VALUE replaces the node whole. Exit code 64 without '=' or with a
// malformed key, 78 when VALUE is not YAML.
void apply_overrides(Node& root, std::span<const std::string> overrides);

// Replaces ${NAME} and ${NAME:-default} (taken when NAME is unset or empty) in all scalars by text
// that is not read as YAML again; "$${" stands for "${". Exit code 78 naming an unset variable.
void expand_environment(Node& node, const std::string& key = "");

}  // namespace trainer
