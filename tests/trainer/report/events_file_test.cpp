#include "trainer/report/events_file.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include "tests/trainer/report/scratch_folder.h"

namespace trainer {
namespace {

// An independent reader: CRC bit by bit, protocol buffers by the wire format's definition.
std::uint32_t slow_crc32c(std::string_view bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const char c : bytes)
    for (int bit = 0; bit < 8; ++bit) {
      const bool odd = (crc ^ (static_cast<unsigned char>(c) >> bit)) & 1;
      crc = (crc >> 1) ^ (odd ? 0x82f63b78u : 0);
    }
  return ~crc;
}

template <typename T>
T little_endian(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

struct Field {
  std::uint64_t number = 0;  // varints and fixed values as bits
  std::string bytes;
};

using Fields = std::multimap<int, Field>;

std::uint64_t take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.at(0));
    bytes.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

Fields parse(std::string_view bytes) {
  Fields fields;
  while (!bytes.empty()) {
    const std::uint64_t key = take_varint(bytes);
    Field field;
    std::size_t length = 0;
    switch (key & 7) {
      case 0:
        field.number = take_varint(bytes);
        break;
      case 1:
        field.number = little_endian<std::uint64_t>(bytes.substr(0, length = 8));
        break;
      case 2:
        length = take_varint(bytes);
        field.bytes = bytes.substr(0, length);
        EXPECT_EQ(field.bytes.size(), length);
        break;
      case 5:
        field.number = little_endian<std::uint32_t>(bytes.substr(0, length = 4));
        break;
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
    }
    bytes.remove_prefix(length);
    fields.emplace(static_cast<int>(key >> 3), field);
  }
  return fields;
}

std::vector<Fields> read_events(std::string_view file) {
  const auto mask = [](std::uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8; };
  std::vector<Fields> events;
  while (!file.empty()) {
    const std::string_view head = file.substr(0, 8);
    const auto length = little_endian<std::uint64_t>(head);
    EXPECT_EQ(little_endian<std::uint32_t>(file.substr(8)), mask(slow_crc32c(head)));
    const std::string_view bytes = file.substr(12, length);
    EXPECT_EQ(little_endian<std::uint32_t>(file.substr(12 + length)), mask(slow_crc32c(bytes)));
    events.push_back(parse(bytes));
    file.remove_prefix(16 + length);
  }
  return events;
}

std::map<std::string, float> scalars_of(const Fields& event) {
  std::map<std::string, float> values;
  const Fields summary = parse(event.find(5)->second.bytes);
  for (auto [it, end] = summary.equal_range(1); it != end; ++it) {
    const Fields value = parse(it->second.bytes);
    values[value.find(1)->second.bytes] =
        std::bit_cast<float>(static_cast<std::uint32_t>(value.find(2)->second.number));
  }
  return values;
}

std::filesystem::path only_file(const std::filesystem::path& folder) {
  return std::filesystem::directory_iterator(folder)->path();
}

TEST(Crc32c, KnownAnswers) {
  // RFC 3720, appendix B.4, and the usual check value.
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(EventsFile, NamedAndStartedAsTensorBoardExpects) {
  const ScratchFolder folder;
  EventsFile events(folder.path(), 500);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "no file before the first event";
  EXPECT_TRUE(events.scalar("loss", 520, 0.5));
  const auto path = only_file(folder.path());
  EXPECT_EQ(path.filename().string().rfind("events.out.tfevents.1", 0), 0u) << path;
  const std::vector<Fields> read = read_events(file_text(path));
  ASSERT_EQ(read.size(), 3u);
  EXPECT_EQ(read[0].find(3)->second.bytes, "brain.Event:2");
  EXPECT_EQ(read[1].find(2)->second.number, 500u);
  EXPECT_EQ(parse(read[1].find(7)->second.bytes).find(1)->second.number, 1u);
  EXPECT_EQ(read[2].find(2)->second.number, 520u);
  EXPECT_GT(std::bit_cast<double>(read[2].find(1)->second.number), 1.7e9) << "wall time";
  EXPECT_EQ(scalars_of(read[2]), (std::map<std::string, float>{{"loss", 0.5f}}));
}

TEST(EventsFile, TrainingStep) {
  const ScratchFolder folder;
  EventsFile events(folder.path(), 0);
  StepReport step;
  step.step = 1'000'000;
  step.loss = 0.75;
  step.losses = {{"loss_classification", 0.5}};
  step.grad_norm = NAN;
  step.images_per_second = 8;
  step.extra = {{"decay/norm", 3}};
  EXPECT_TRUE(events.training(step));
  const std::vector<Fields> read = read_events(file_text(only_file(folder.path())));
  EXPECT_EQ(read.back().find(2)->second.number, 1'000'000u);
  const auto values = scalars_of(read.back());
  EXPECT_EQ(values.at("train/loss"), 0.75f);
  EXPECT_EQ(values.at("train/loss_classification"), 0.5f);
  EXPECT_EQ(values.at("run/images_per_second"), 8);
  EXPECT_EQ(values.at("decay/norm"), 3);
  EXPECT_EQ(values.count("train/grad_norm"), 0u) << "undefined";
}

TEST(EventsFile, OnlyUndefinedValuesMakeNoEvent) {
  const ScratchFolder folder;
  EventsFile events(folder.path(), 0);
  EXPECT_TRUE(events.scalars(1, std::vector<NamedValue>{{"a", NAN}}));
  EXPECT_EQ(read_events(file_text(only_file(folder.path()))).size(), 2u);
}

TEST(EventsFile, Image) {
  const ScratchFolder folder;
  EventsFile events(folder.path(), 0);
  std::vector<std::uint8_t> png(1000);
  for (std::size_t i = 0; i < png.size(); ++i) png[i] = static_cast<std::uint8_t>(7 * i);
  EXPECT_TRUE(events.image("predictions", 3, 640, 480, png));
  const Fields event = read_events(file_text(only_file(folder.path()))).back();
  const Fields value = parse(parse(event.find(5)->second.bytes).find(1)->second.bytes);
  EXPECT_EQ(value.find(1)->second.bytes, "predictions");
  const Fields image = parse(value.find(4)->second.bytes);
  EXPECT_EQ(image.find(1)->second.number, 480u);
  EXPECT_EQ(image.find(2)->second.number, 640u);
  EXPECT_EQ(image.find(3)->second.number, 3u);
  EXPECT_EQ(image.find(4)->second.bytes, std::string(png.begin(), png.end()));
}

TEST(EventsFile, FullDiskLeavesAReadableFile) {
  const ScratchFolder folder;
  EventsFile events(folder.path(), 0);
  EXPECT_TRUE(events.scalar("a", 1, 1));
  const auto path = only_file(folder.path());
  {
    const FullDisk full(std::filesystem::file_size(path) + 10);
    EXPECT_FALSE(events.scalar("a", 2, 2));
  }
  EXPECT_TRUE(events.scalar("a", 3, 3));
  const std::vector<Fields> read = read_events(file_text(path));
  ASSERT_EQ(read.size(), 4u);
  EXPECT_EQ(read[3].find(2)->second.number, 3u);
}

}  // namespace
}  // namespace trainer
