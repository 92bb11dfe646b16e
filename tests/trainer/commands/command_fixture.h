#pragma once

#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/config/load.h"

namespace trainer {

// The smallest detector that runs: RetinaNet-R18 at 64 x 64 on the built-in set.
inline Config small_config(const std::vector<std::string>& overrides = {}) {
  constexpr const char* kText =
      "model: {name: retinanet, backbone: resnet18, norm: batch}\n"
      "data: {format: shapes, train: {limit: 8}, val: {limit: 4}, size: [64, 64], max_boxes: 8}\n"
      "train: {batch: 8, micro_batch: 1, epochs: 4}\n"
      "optimizer: {name: sgd, lr: 0.01, momentum: 0.9}\n"
      "regularization: {l2: 1.0e-4}\n";
  return parse_config(kText, "small.yaml", overrides).config;
}

// A folder of its own for each test, gone afterwards.
class ScratchFolder {
 public:
  ScratchFolder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::path(testing::TempDir()) /
            (std::string(test->test_suite_name()) + "_" + test->name());
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline rapidjson::Document parse_json(const std::string& text) {
  rapidjson::Document document;
  document.Parse(text.c_str());
  EXPECT_FALSE(document.HasParseError()) << text;
  EXPECT_TRUE(document.IsObject());
  return document;
}

}  // namespace trainer
