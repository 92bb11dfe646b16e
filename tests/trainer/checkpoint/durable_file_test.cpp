#include "trainer/checkpoint/durable_file.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/trainer/checkpoint/fault_layer.h"
#include "tests/trainer/checkpoint/test_run.h"
#include "trainer/checkpoint/digest.h"

namespace trainer {
namespace {

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kLarge = std::size_t{4} << 20;  // from here on past the page cache

// On a disk, where O_DIRECT is served, and in memory, where older systems refuse it.
class LargeFile : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::mt19937 random(7);
    bytes.resize(kLarge + 3 * kBlock);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    void* start = bytes.data();
    std::size_t space = bytes.size();
    aligned = {static_cast<std::byte*>(std::align(kBlock, kLarge + kBlock, start, space)),
               kLarge + kBlock};
    std::string name = std::string(GetParam()) + "/ridgeline-durable-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) GTEST_SKIP() << "no folder in " << GetParam();
    folder = name;
  }
  void TearDown() override { fs::remove_all(folder); }

  void expect_round_trip(std::span<const std::byte> content) const {
    const fs::path file = folder / "file";
    write_durably(file, content);
    for (const bool from_disk : {false, true}) {
      const FileDigest found = digest_file(file, from_disk);
      EXPECT_EQ(found.num_bytes, content.size());
      EXPECT_EQ(found.digest, digest_of(content));
    }
    EXPECT_TRUE(std::ranges::equal(read_whole(file, content.size()), content));
  }

  std::vector<std::byte> bytes;
  std::span<std::byte> aligned;
  fs::path folder;
};

TEST_P(LargeFile, WholeBlocks) { expect_round_trip(aligned.first(kLarge)); }

TEST_P(LargeFile, WithARest) {
  expect_round_trip(aligned.first(kLarge + 1));
  expect_round_trip(aligned.first(kLarge + kBlock - 1));
}

TEST_P(LargeFile, AnywhereInMemory) { expect_round_trip(aligned.subspan(1, kLarge)); }

TEST_P(LargeFile, WrittenInUnevenParts) {
  // Opening, then the first write: half of an odd number of blocks.
  fault::arm({.folder = folder, .action = fault::Action::kShortWrite, .at = 1});
  write_durably(folder / "file", aligned);
  EXPECT_GT(fault::disarm(), 2);
  EXPECT_EQ(digest_file(folder / "file", true).digest, digest_of(aligned));
}

INSTANTIATE_TEST_SUITE_P(Places, LargeFile, testing::Values(".", "/dev/shm"),
                         [](const auto& place) { return place.index == 0 ? "disk" : "memory"; });

}  // namespace
}  // namespace trainer
