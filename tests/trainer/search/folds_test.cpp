#include "trainer/search/folds.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "comm/error.h"
#include "trainer/config/load.h"
#include "trainer/data/subset.h"

namespace trainer {
namespace {

std::vector<std::string> names(int count) {
  std::vector<std::string> groups;
  for (int i = 0; i < count; ++i) groups.push_back("image-" + std::to_string(i));
  return groups;
}

std::shared_ptr<const Dataset> shapes(int limit, const Fields& fields) {
  const Config config = parse_config("data: {format: shapes, size: [64, 64], train: {limit: " +
                                         std::to_string(limit) + "}}\ntrain: {epochs: 1}\n",
                                     "shapes.yaml")
                            .config;
  OpenOptions open;
  open.fields = fields;
  return open_dataset(config.data, open);
}

TEST(Folds, EverySampleIsHeldOutOnceAndSizesAreEven) {
  const auto folds = assign_folds(names(103), 5, 1);
  std::multiset<std::int64_t> held_out;
  for (int f = 0; f < 5; ++f) {
    const Fold fold = fold_of(folds, f);
    EXPECT_GE(fold.held_out.size(), 20u);
    EXPECT_LE(fold.held_out.size(), 21u);
    EXPECT_EQ(fold.train.size() + fold.held_out.size(), 103u);
    EXPECT_TRUE(std::is_sorted(fold.train.begin(), fold.train.end()));
    std::vector<std::int64_t> both;
    std::ranges::set_intersection(fold.train, fold.held_out, std::back_inserter(both));
    EXPECT_TRUE(both.empty());
    held_out.insert(fold.held_out.begin(), fold.held_out.end());
  }
  EXPECT_EQ(held_out.size(), 103u);
  EXPECT_EQ(std::set<std::int64_t>(held_out.begin(), held_out.end()).size(), 103u);
}

TEST(Folds, AreAFunctionOfTheSeed) {
  EXPECT_EQ(assign_folds(names(60), 3, 7), assign_folds(names(60), 3, 7));
  EXPECT_NE(assign_folds(names(60), 3, 7), assign_folds(names(60), 3, 8));
}

TEST(Folds, AreNotTheOrderOfTheData) {
  const Fold fold = fold_of(assign_folds(names(100), 2, 1), 0);
  EXPECT_NE(fold.held_out.back() - fold.held_out.front() + 1,
            static_cast<std::int64_t>(fold.held_out.size()));
}

TEST(Folds, AGroupStaysTogetherAndSizesStayNear) {
  std::vector<std::string> groups;
  for (int i = 0; i < 120; ++i) groups.push_back("patient-" + std::to_string(i * 7919 % 30));
  const auto folds = assign_folds(groups, 4, 3);
  std::map<std::string, int> fold_of_group;
  std::map<int, int> sizes;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto [known, is_new] = fold_of_group.try_emplace(groups[i], folds[i]);
    EXPECT_EQ(known->second, folds[i]) << groups[i];
    ++sizes[folds[i]];
  }
  for (const auto& [fold, size] : sizes) EXPECT_NEAR(size, 30, 4) << fold;
}

TEST(Folds, MoreThanGroupsIsRefused) {
  try {
    assign_folds({"a", "a", "b"}, 3, 1);
    FAIL() << "accepted";
  } catch (const comm::Error& error) {
    EXPECT_EQ(error.code(), comm::ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("2 images or groups"), std::string::npos);
  }
}

TEST(Folds, GroupsComeFromNamesByPattern) {
  const auto data = shapes(12, {.boxes = true});  // shapes/train/0 ... shapes/train/11
  const auto each = sample_groups(*data, "");
  EXPECT_EQ(std::set<std::string>(each.begin(), each.end()).size(), 12u);
  const auto tens = sample_groups(*data, "/(\\d)\\d*$");  // the first digit
  EXPECT_EQ(tens[1], tens[10]);
  EXPECT_EQ(tens[1], tens[11]);
  EXPECT_NE(tens[1], tens[2]);
  const auto none = sample_groups(*data, "^patient");
  EXPECT_EQ(std::set<std::string>(none.begin(), none.end()).size(), 12u);
  EXPECT_THROW(sample_groups(*data, "("), comm::Error);
}

TEST(Subset, IsTheSameSamplesUnderNewNumbers) {
  const auto whole = shapes(6, {.boxes = true, .label_map = true});
  const SubsetDataset part(whole, {4, 1});
  ASSERT_EQ(part.size(), 2);
  EXPECT_EQ(part.sample(0).name, whole->sample(4).name);
  EXPECT_EQ(part.sample(1).objects.size(), whole->sample(1).objects.size());
  EXPECT_EQ(part.image(0, nullptr).image.rgb, whole->image(4).image.rgb);
  EXPECT_EQ(part.label_map(1).pixels, whole->label_map(1).pixels);
  EXPECT_EQ(part.class_names(), whole->class_names());
  EXPECT_EQ(part.num_classes(), whole->num_classes());
  EXPECT_EQ(part.category_id(2), whole->category_id(2));
  EXPECT_NO_THROW(require_same_classes(part, *whole));
}

TEST(Subset, GroundTruthIsThatOfItsImages) {
  const auto whole = shapes(6, {.boxes = true});
  const SubsetDataset part(whole, {5, 2});
  const CocoAnnotations truth = part.ground_truth();
  ASSERT_EQ(truth.images.size(), 2u);
  EXPECT_EQ(truth.annotations.size(),
            whole->sample(5).objects.size() + whole->sample(2).objects.size());
  for (const CocoAnnotation& annotation : truth.annotations)
    EXPECT_TRUE(annotation.image_id == 6 || annotation.image_id == 3);
  EXPECT_EQ(truth.categories.size(), whole->ground_truth().categories.size());
}

TEST(Subset, FingerprintTellsPartsApart) {
  const auto whole = shapes(6, {.boxes = true});
  EXPECT_EQ(SubsetDataset(whole, {0, 1}).fingerprint(), SubsetDataset(whole, {0, 1}).fingerprint());
  EXPECT_NE(SubsetDataset(whole, {0, 1}).fingerprint(), SubsetDataset(whole, {0, 2}).fingerprint());
}

TEST(Subset, SpreadIndicesCoverTheWhole) {
  EXPECT_EQ(spread_indices(10, 5), (std::vector<std::int64_t>{0, 2, 4, 6, 8}));
  EXPECT_EQ(spread_indices(3, 5), (std::vector<std::int64_t>{0, 1, 2}));
}

}  // namespace
}  // namespace trainer
