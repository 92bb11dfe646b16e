#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "comm/error.h"
#include "trainer/config/load.h"

namespace trainer {

using Overrides = std::vector<std::string>;

inline LoadedConfig parse(const std::string& text, const Overrides& overrides = {}) {
  return parse_config(text, "t.yaml", overrides);
}

// The message of the error that `text` stops at; empty when it does not. `code` is expected.
inline std::string error_of(const std::string& text, const Overrides& overrides = {},
                            comm::ExitCode code = comm::ExitCode::kConfig) {
  try {
    parse(text, overrides);
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
  return "";
}

// "a.b.c", "1" -> "a:\n  b:\n    c: 1\n"; the value stands in the last line.
inline std::string nested(const std::string& key, const std::string& value) {
  std::string text, indent;
  size_t begin = 0;
  for (size_t dot; (dot = key.find('.', begin)) != std::string::npos; begin = dot + 1) {
    text += indent + key.substr(begin, dot - begin) + ":\n";
    indent += "  ";
  }
  return text + indent + key.substr(begin) + ": " + value + "\n";
}

inline size_t depth(const std::string& key) { return 1 + std::count(key.begin(), key.end(), '.'); }

// A folder of the test's own files, removed at the end.
class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "config-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
    return (path_ / name).string();
  }
  std::string path(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace trainer
