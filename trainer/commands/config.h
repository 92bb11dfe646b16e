#pragma once

#include <span>
#include <string>

namespace trainer {

// `ridgeline config show|check|keys`: each returns what goes to stdout and throws comm::Error with
// exit code 78 for a bad configuration (66: no such file).

// The resolved file with the origin of each value, notices first as comments.
std::string config_show(const std::string& path, std::span<const std::string> overrides);

// "PATH: ok" and the notices; the error holds every problem, one a line.
std::string config_check(const std::string& path, std::span<const std::string> overrides);

// Every key with type, default, range and meaning.
std::string config_keys();

}  // namespace trainer
