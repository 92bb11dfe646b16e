#include "tests/goldens/formula.h"

#include <gtest/gtest.h>
#include <rapidjson/document.h>
#include <rapidjson/istreamwrapper.h>

#include <bit>
#include <fstream>
#include <numeric>

#include "tests/goldens/path.h"

namespace goldens {
namespace {

rapidjson::Document read_json(const std::string& file_name) {
  std::ifstream file(path_of(file_name));
  rapidjson::IStreamWrapper stream(file);
  rapidjson::Document document;
  document.ParseStream(stream);
  EXPECT_FALSE(document.HasParseError()) << file_name;
  return document;
}

std::uint64_t words_sum(std::span<const float> values) {
  std::uint64_t sum = 0;
  for (const float value : values) sum += std::bit_cast<std::uint32_t>(value);
  return sum;
}

std::vector<double> doubles(const rapidjson::Value& array) {
  std::vector<double> out;
  for (const auto& value : array.GetArray()) out.push_back(value.GetDouble());
  return out;
}

class FormulaTest : public testing::Test {
 protected:
  rapidjson::Document golden_ = read_json("formula.json");
  std::uint64_t seed_ = golden_["seed"].GetUint64();
};

TEST_F(FormulaTest, PhiloxIsTheProjectsOwn) {
  const comm::Random4 words =
      comm::philox((std::uint64_t{1} << 40) + 5, comm::Purpose::kFlip, stream_of("stream"), 7, 9);
  for (int lane = 0; lane < 4; ++lane) EXPECT_EQ(words.v[lane], golden_["philox"][lane].GetUint());
}

TEST_F(FormulaTest, WeightsHaveTheSameBits) {
  for (const auto& [key, entry] : golden_["tensors"].GetObject()) {
    std::vector<std::int64_t> shape;
    for (const auto& extent : entry["shape"].GetArray()) shape.push_back(extent.GetInt64());
    const std::string name = key.GetString();
    const std::vector<float> tensor = state(seed_, name, shape);
    EXPECT_EQ(words_sum(tensor), entry["words_sum"].GetUint64()) << name;

    const std::vector<double> stored = doubles(entry["value"]);
    const Statistics expected = read_statistics(stored);
    const Statistics actual = statistics<float>(name, tensor);
    EXPECT_NEAR(actual.norm, expected.norm, 1e-8 * expected.norm) << name;
    EXPECT_NEAR(actual.sum, expected.sum, 1e-8 * expected.norm + 1e-8 * std::abs(expected.sum));
    EXPECT_EQ(actual.first.size(), std::min(tensor.size(), kNumFirst));
    EXPECT_LT(distance(actual, expected), 1e-7) << name;
  }
}

TEST_F(FormulaTest, ImagesHaveTheSameBits) {
  const auto& image = golden_["image"];
  const int index = image["index"].GetInt();
  const int height = image["height"].GetInt(), width = image["width"].GetInt();
  const std::vector<std::uint8_t> bytes = image_bytes(seed_, index, height, width);
  EXPECT_EQ(std::accumulate(bytes.begin(), bytes.end(), 0), image["bytes_sum"].GetInt());
  for (rapidjson::SizeType i = 0; i < image["first"].Size(); ++i) {
    EXPECT_EQ(bytes[i], image["first"][i].GetInt());
  }
  EXPECT_EQ(words_sum(normalised_image(seed_, index, height, width)),
            image["normalised_words_sum"].GetUint64());
}

TEST_F(FormulaTest, LabelMapsAreTheSame) {
  const auto& map = golden_["label_map"];
  const int width = map["width"].GetInt();
  const std::vector<std::uint8_t> labels = label_map(
      seed_, map["index"].GetInt(), map["height"].GetInt(), width, map["num_classes"].GetInt());
  EXPECT_EQ(std::accumulate(labels.begin(), labels.end(), 0), map["sum"].GetInt());
  for (rapidjson::SizeType i = 0; i < map["every_eighth_of_row_8"].Size(); ++i) {
    EXPECT_EQ(labels[8 * width + 8 * i], map["every_eighth_of_row_8"][i].GetInt());
  }
}

TEST(StatisticsTest, DistanceEstimatesTheDifferenceOfTensors) {
  const std::vector<float> a = values(1, "a", 10000, {0.0f, 1.0f});
  std::vector<float> b = a;
  const std::vector<float> noise = values(1, "noise", 10000, {0.0f, 1e-3f});
  for (std::size_t i = 0; i < b.size(); ++i) b[i] += noise[i];
  const double estimate = distance(statistics<float>("t", a), statistics<float>("t", b));
  EXPECT_GT(estimate, 0.5e-3);
  EXPECT_LT(estimate, 2e-3);
  EXPECT_EQ(distance(statistics<float>("t", a), statistics<float>("t", a)), 0);
}

}  // namespace
}  // namespace goldens
