#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <sstream>

#include "comm/error.h"
#include "trainer/config/tree.h"

// Built on yaml-cpp's events, not on YAML::Load: the latter accepts duplicate keys (the first
// wins), expands aliases without limit and ignores a second document.
namespace trainer {
namespace {

using comm::ExitCode;
constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxDepth = 20;

class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const std::string& source) : source_(source) {}

  Node take() { return std::move(root_); }

  std::string place(const YAML::Mark& mark) const {
    return source_.empty() ? "command line" : fmt::format("{}:{}", source_, mark.line + 1);
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string& name) override {
    refuse(mark, "anchor &" + name);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse(mark, "alias"); }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    if (at_key()) bad_key(mark);
    add(mark, Node::Kind::kNull);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    if (tag != "?" && tag != "!" && !tag.empty()) refuse(mark, "tag " + quote(tag));
    if (at_key()) return on_key(mark, value);
    Node& node = add(mark, Node::Kind::kScalar);
    node.text = value;
    node.quoted = tag == "!";
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, Node::Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, Node::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    Node node;
    std::string key;  // kMap: the key whose value comes next
    std::string key_place;
    bool has_key = false;
  };

  bool at_key() const {
    return !levels_.empty() && levels_.back().node.kind == Node::Kind::kMap &&
           !levels_.back().has_key;
  }

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& what) const {
    comm::fail(ExitCode::kConfig, "{}: {}: not accepted here; write the value out", place(mark),
               what);
  }
  [[noreturn]] void bad_key(const YAML::Mark& mark) const {
    comm::fail(ExitCode::kConfig,
               "{}: a key must be a word, as in 'name: value'; is a bracket left open?",
               place(mark));
  }

  std::string path(const std::string& key) const {
    std::string result;
    for (size_t i = 0; i + 1 < levels_.size(); ++i)
      if (levels_[i].has_key) result += levels_[i].key + ".";
    return result + key;
  }

  void on_key(const YAML::Mark& mark, const std::string& key) {
    if (key == "<<") refuse(mark, "merge key <<");
    Level& level = levels_.back();
    if (const Node* first = level.node.find(key))
      comm::fail(ExitCode::kConfig, "{}: {}: given twice, first at {}; remove one", place(mark),
                 path(key), first->origin);
    level.key = key;
    level.key_place = place(mark);
    level.has_key = true;
  }

  // Puts an empty node where the document now stands and returns it.
  Node& add(const YAML::Mark& mark, Node::Kind kind) {
    Node node;
    node.kind = kind;
    node.origin = place(mark);
    if (levels_.empty()) return root_ = std::move(node);
    Level& parent = levels_.back();
    if (parent.node.kind == Node::Kind::kList) {
      parent.node.items.push_back(std::move(node));
      return parent.node.items.back();
    }
    node.origin = parent.key_place;
    parent.has_key = false;
    parent.node.entries.push_back({parent.key, std::move(node)});
    return parent.node.entries.back().value;
  }

  void open(const YAML::Mark& mark, const std::string& tag, Node::Kind kind) {
    if (tag != "?" && !tag.empty()) refuse(mark, "tag " + quote(tag));
    if (at_key()) bad_key(mark);
    if (levels_.size() >= kMaxDepth)
      comm::fail(ExitCode::kConfig, "{}: nested more than {} levels deep", place(mark), kMaxDepth);
    Level level;
    level.node.kind = kind;
    level.node.origin = place(mark);
    levels_.push_back(std::move(level));
  }

  void close() {
    Node node = std::move(levels_.back().node);
    levels_.pop_back();
    const std::string own_place = node.origin;
    Node& target = add(YAML::Mark(), node.kind);
    const bool in_map = !levels_.empty() && levels_.back().node.kind == Node::Kind::kMap;
    const std::string key_place = target.origin;
    target = std::move(node);
    target.origin = in_map ? key_place : own_place;
  }

  const std::string& source_;
  Node root_;
  std::vector<Level> levels_;
};

void refuse_control_bytes(std::string_view text, const std::string& source) {
  const auto is_control = [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t') ||
           c == 0x7f;
  };
  const auto found = std::find_if(text.begin(), text.end(), is_control);
  if (found == text.end()) return;
  const std::string place =
      source.empty() ? "command line"
                     : fmt::format("{}:{}", source, 1 + std::count(text.begin(), found, '\n'));
  comm::fail(ExitCode::kConfig, "{}: control byte 0x{:02x}; a configuration is UTF-8 text", place,
             static_cast<unsigned char>(*found));
}

}  // namespace

Node* Node::find(std::string_view key) {
  for (Entry& entry : entries)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

std::string escape(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      result += fmt::format("\\x{:02x}", byte);
    else
      result += c;
  }
  return result;
}

std::string quote(std::string_view text) {
  constexpr size_t kShown = 60;
  return "'" + escape(text.substr(0, kShown)) + (text.size() > kShown ? "...'" : "'");
}

Node parse_yaml(std::string_view text, const std::string& source) {
  if (text.size() > kMaxBytes)
    comm::fail(ExitCode::kConfig, "{}: {} bytes; a configuration has at most 1 MiB", source,
               text.size());
  refuse_control_bytes(text, source);
  TreeBuilder builder(source);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    Node root = builder.take();
    TreeBuilder second(source);
    if (parser.HandleNextDocument(second))
      comm::fail(ExitCode::kConfig, "{}: a second document ('---'); one is allowed",
                 second.take().origin);
    return root;
  } catch (const YAML::Exception& e) {
    comm::fail(ExitCode::kConfig, "{}: not YAML: {}", builder.place(e.mark), e.msg);
  }
}

}  // namespace trainer
