#include "trainer/config/load.h"

#include <filesystem>

#include "comm/error.h"
#include "trainer/config/read.h"
#include "trainer/config/tree.h"

namespace trainer {
namespace {

struct Outcome {
  LoadedConfig loaded;
  std::vector<std::string> problems;
};

Outcome understand(Node root, const std::string& source, std::span<const std::string> overrides) {
  if (root.find("_base_"))
    comm::fail(comm::ExitCode::kConfig, "{}: _base_: only a file can have bases",
               root.find("_base_")->origin);
  apply_overrides(root, overrides);
  expand_environment(root);
  Outcome outcome;
  outcome.problems = read_tree(root, outcome.loaded);
  if (!outcome.problems.empty()) return outcome;  // contradictions would be consequences
  resolve_defaults(std::filesystem::path(source).stem().string(), outcome.loaded);
  outcome.problems = contradictions(outcome.loaded);
  return outcome;
}

LoadedConfig checked(Outcome outcome, const std::string& source) {
  if (outcome.problems.empty()) return std::move(outcome.loaded);
  const size_t others = outcome.problems.size() - 1;
  comm::fail(
      comm::ExitCode::kConfig, "{}{}", outcome.problems[0],
      others ? fmt::format(" (and {} more: ridgeline config check {})", others, source) : "");
}

}  // namespace

LoadedConfig load_config(const std::string& path, std::span<const std::string> overrides) {
  return checked(understand(load_tree(path), path, overrides), path);
}

LoadedConfig parse_config(std::string_view text, const std::string& source,
                          std::span<const std::string> overrides) {
  Node root = parse_yaml(text, source);
  if (root.kind == Node::Kind::kNull) root.kind = Node::Kind::kMap;
  if (root.kind != Node::Kind::kMap)
    comm::fail(comm::ExitCode::kConfig, "{}: a configuration is a map", root.origin);
  return checked(understand(std::move(root), source, overrides), source);
}

std::vector<std::string> config_problems(const std::string& path,
                                         std::span<const std::string> overrides) {
  return understand(load_tree(path), path, overrides).problems;
}

}  // namespace trainer
