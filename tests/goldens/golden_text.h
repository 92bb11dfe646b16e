#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "tests/goldens/path.h"

// Texts that tests compare byte for byte with files of tests/goldens.
namespace goldens {

// With RIDGELINE_UPDATE_GOLDENS in the environment the file is written instead.
inline void expect_text(const std::string& name, const std::string& text) {
  const std::string path = path_of(name);
  if (std::getenv("RIDGELINE_UPDATE_GOLDENS")) {
    std::ofstream(path, std::ios::binary) << text;
    return;
  }
  std::ifstream file(path, std::ios::binary);
  const std::string golden{std::istreambuf_iterator<char>(file), {}};
  std::istringstream got(text), expected(golden);
  const char* remedy = "; if the change is meant, run with RIDGELINE_UPDATE_GOLDENS=1";
  std::string a, b;
  for (int line = 1; std::getline(expected, b); ++line) {
    ASSERT_TRUE(std::getline(got, a)) << name << ":" << line << " is missing: " << b << remedy;
    ASSERT_EQ(a, b) << name << ":" << line << remedy;
  }
  EXPECT_EQ(text, golden) << name << remedy;
}

}  // namespace goldens
