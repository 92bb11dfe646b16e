#include "trainer/config/suggest.h"

#include <gtest/gtest.h>

#include <vector>

namespace trainer {
namespace {

const std::vector<std::string> kVerbs = {"train", "eval", "predict", "params", "plan", "bench"};

TEST(Suggest, FindsEachKindOfSlip) {
  EXPECT_EQ(did_you_mean("trian", kVerbs), "train");     // swap
  EXPECT_EQ(did_you_mean("predct", kVerbs), "predict");  // deletion
  EXPECT_EQ(did_you_mean("pplan", kVerbs), "plan");      // insertion
  EXPECT_EQ(did_you_mean("bemch", kVerbs), "bench");     // substitution
  EXPECT_EQ(did_you_mean("EVAL", kVerbs), "eval");
}

TEST(Suggest, StaysSilentWhenNothingIsNear) {
  EXPECT_EQ(did_you_mean("zebra", kVerbs), "");
  EXPECT_EQ(did_you_mean("", kVerbs), "");
  EXPECT_EQ(did_you_mean("train", {}), "");
  EXPECT_EQ(did_you_mean(std::string(100000, 'a'), kVerbs), "");
}

TEST(Suggest, TheNearestWinsAndThenTheFirst) {
  const std::vector<std::string> words = {"l1", "l2", "flip", "vflip"};
  EXPECT_EQ(did_you_mean("l22", words), "l2");
  EXPECT_EQ(did_you_mean("l3", words), "l1");
  EXPECT_EQ(did_you_mean("vflp", words), "vflip");
}

}  // namespace
}  // namespace trainer
