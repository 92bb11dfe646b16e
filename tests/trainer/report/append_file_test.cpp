#include "trainer/report/append_file.h"

#include <gtest/gtest.h>

#include "comm/error.h"
#include "tests/trainer/report/scratch_folder.h"

namespace trainer {
namespace {

TEST(AppendFile, AppendsToWhatIsThere) {
  const ScratchFolder folder;
  const auto path = folder.path() / "a";
  {
    AppendFile file(path);
    EXPECT_FALSE(std::filesystem::exists(path)) << "created before the first record";
    EXPECT_TRUE(file.append("one\n"));
  }
  AppendFile file(path);
  EXPECT_TRUE(file.append("two\n"));
  EXPECT_EQ(file_text(path), "one\ntwo\n");
  EXPECT_EQ(file.num_lost(), 0);
  EXPECT_EQ(file.error(), "");
}

TEST(AppendFile, FullDiskLosesWholeRecordsOnly) {
  const ScratchFolder folder;
  AppendFile file(folder.path() / "a");
  ASSERT_TRUE(file.append("0123456789\n"));
  {
    const FullDisk full(15);  // the next record fits in part
    EXPECT_FALSE(file.append("abcdefghij\n"));
    EXPECT_FALSE(file.append("abcdefghij\n"));
  }
  EXPECT_EQ(file.num_lost(), 2);
  EXPECT_NE(file.error(), "");
  EXPECT_EQ(file_text(file.path()), "0123456789\n");
  EXPECT_TRUE(file.append("again\n"));
  EXPECT_EQ(file_text(file.path()), "0123456789\nagain\n");
}

TEST(AppendFile, DeviceWithoutSpace) {
  AppendFile file("/dev/full");
  EXPECT_FALSE(file.append("record"));
  EXPECT_EQ(file.error(), "No space left on device");
}

TEST(AppendFile, MissingFolderIsNotFatalAndMayAppear) {
  const ScratchFolder folder;
  AppendFile file(folder.path() / "later" / "a");
  EXPECT_FALSE(file.append("lost"));
  std::filesystem::create_directory(folder.path() / "later");
  EXPECT_TRUE(file.append("kept"));
  EXPECT_EQ(file_text(file.path()), "kept");
}

TEST(WriteFile, ReplacesAndLeavesNothingBeside) {
  const ScratchFolder folder;
  const auto path = folder.path() / "new" / "a.svg";
  write_file(path, "first, longer");
  write_file(path, "second");
  EXPECT_EQ(file_text(path), "second");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path.parent_path()), {}), 1);
}

TEST(WriteFile, FullDiskKeepsTheOldFile) {
  const ScratchFolder folder;
  const auto path = folder.path() / "a";
  write_file(path, "old");
  try {
    const FullDisk full(5);
    write_file(path, "much longer than the limit");
    FAIL() << "no error";
  } catch (const comm::Error& error) {
    EXPECT_EQ(error.code(), comm::ExitCode::kIo);
    EXPECT_NE(std::string(error.what()).find("a.tmp"), std::string::npos) << error.what();
  }
  EXPECT_EQ(file_text(path), "old");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "a.tmp"));
}

}  // namespace
}  // namespace trainer
