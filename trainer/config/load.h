#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/config/config.h"

// From a YAML file to a checked Config, and back. All errors are comm::Error with exit code 78
// (66 when the file itself is missing or unreadable), one line: "file:line: key: what; what to do".
namespace trainer {

// Key -> where its value comes from: "file:line", "command line", "default" or, for values that
// depend on others, "default (why)". Every key that applies has an entry.
using Origins = std::map<std::string, std::string>;

struct LoadedConfig {
  Config config;
  Origins origins;
  std::vector<std::string> notices;  // one line each: keys given that have no effect here
};

// Reads `path` with its _base_ files, then applies `overrides` ("KEY=VALUE", VALUE is YAML).
LoadedConfig load_config(const std::string& path, std::span<const std::string> overrides = {});

// The same from text, as from a resolved file that rank 0 sends; `_base_` is refused there.
// `source` names the text in messages, its stem is the default of `name`.
LoadedConfig parse_config(std::string_view text, const std::string& source,
                          std::span<const std::string> overrides = {});

// Every problem that load_config would stop at, instead of the first alone; empty: the file is
// fine.
std::vector<std::string> config_problems(const std::string& path,
                                         std::span<const std::string> overrides = {});

// `config keys`: every key with type, default, range and meaning.
std::string keys_text();

// OUT/config.yaml: every key that applies, with its origin as a comment; reads back to an equal
// Config.
std::string resolved_yaml(const Config& config, const Origins& origins);

// Who may change a key on resume: identity nobody, schedule with a notice, runtime anyone.
enum class KeyClass { kIdentity, kSchedule, kRuntime };

struct KeyValue {
  std::string key, value;  // value as resolved_yaml prints it, "-" when absent
  KeyClass cls;
  bool is_default = false;  // what the key has where nothing sets it
  bool operator==(const KeyValue&) const = default;
};

// Every key that applies, in the order of the schema; what checkpoints compare. Paths to data are
// kRuntime: the data's identity is its fingerprint, not its place.
std::vector<KeyValue> key_values(const Config& config);

}  // namespace trainer
