#pragma once

#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

// Ground truth, detections and expected numbers that others computed.

inline std::filesystem::path data_dir() {
  const char* set = std::getenv("RIDGELINE_DATA");
  return set != nullptr ? std::filesystem::path(set)
                        : std::filesystem::path(RIDGELINE_SOURCE_DIR) / "../shared/data";
}

inline std::filesystem::path oracle_dir() { return data_dir() / "eval_oracle"; }

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline rapidjson::Document read_json(const std::filesystem::path& path) {
  rapidjson::Document document;
  document.Parse<rapidjson::kParseFullPrecisionFlag>(read_text(path).c_str());
  EXPECT_FALSE(document.HasParseError()) << path;
  return document;
}

#define SKIP_WITHOUT_ORACLE()                                                         \
  if (!std::filesystem::exists(oracle_dir())) {                                       \
    GTEST_SKIP() << "no " << oracle_dir() << "; RIDGELINE_DATA names another folder"; \
  }
