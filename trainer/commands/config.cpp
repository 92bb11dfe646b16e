#include "trainer/commands/config.h"

#include "comm/error.h"
#include "trainer/config/load.h"

namespace trainer {

std::string config_show(const std::string& path, std::span<const std::string> overrides) {
  const LoadedConfig loaded = load_config(path, overrides);
  std::string text;
  for (const std::string& notice : loaded.notices) text += "# notice: " + notice + "\n";
  return text + resolved_yaml(loaded.config, loaded.origins);
}

std::string config_check(const std::string& path, std::span<const std::string> overrides) {
  std::string lines;
  for (const std::string& problem : config_problems(path, overrides))
    lines += (lines.empty() ? "" : "\n") + problem;
  if (!lines.empty()) throw comm::Error(comm::ExitCode::kConfig, lines);
  std::string text = path + ": ok\n";
  for (const std::string& notice : load_config(path, overrides).notices)
    text += "notice: " + notice + "\n";
  return text;
}

std::string config_keys() { return keys_text(); }

}  // namespace trainer
