#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <map>
#include <random>

#include "tests/trainer/checkpoint/test_run.h"
#include "trainer/checkpoint/manifest.h"

namespace trainer {
namespace {

using comm::ExitCode;

// A run of two ranks with checkpoints of steps 1 and 2; the tests damage step 2.
class Corruption : public testing::Test {
 protected:
  Corruption() {
    save_step(run, 2, 1);
    save_step(run, 2, 2);
    for (const char* name : {"model.h5", "optimizer-00000-of-00002.h5",
                             "optimizer-00001-of-00002.h5", "MANIFEST.json"})
      files[name] = read_text(folder / name);
  }
  // Opening step 2 is refused; the run continues from step 1 and says so.
  void expect_detected(const std::string& what) {
    const auto comm = comm::single_communicator();
    EXPECT_EQ(code_of([&] { open_checkpoint(folder, *comm, {}); }), ExitCode::kCheckpointRefused)
        << what;
    std::vector<std::string> notes;
    const std::optional<Checkpoint> found = newest(run, &notes);
    ASSERT_TRUE(found) << what;
    EXPECT_EQ(found->meta().step, 1) << what;
    ASSERT_EQ(notes.size(), 2u) << what;
    EXPECT_THAT(notes[0], testing::HasSubstr("step-00000002")) << what;
    EXPECT_THAT(notes[1], testing::HasSubstr("falling back")) << what;
  }
  void restore() {
    for (const auto& [name, text] : files) write_text(folder / name, text);
  }

  TestFolder run;
  fs::path folder = run.path() / "checkpoints/step-00000002";
  std::map<std::string, std::string> files;
};

TEST_F(Corruption, EveryFlippedBitOfTheManifest) {
  const std::string& text = files["MANIFEST.json"];
  for (std::size_t i = 0; i < text.size(); ++i)
    for (const int bit : {0, 3, 7}) {
      std::string flipped = text;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      ASSERT_EQ(code_of([&] { decode_manifest(flipped); }), ExitCode::kCheckpointRefused)
          << i << " " << bit;
    }
  decode_manifest(text);
}

TEST_F(Corruption, EveryTruncationOfTheManifest) {
  const std::string& text = files["MANIFEST.json"];
  for (std::size_t i = 0; i < text.size(); ++i)
    ASSERT_EQ(code_of([&] { decode_manifest(std::string_view(text).substr(0, i)); }),
              ExitCode::kCheckpointRefused);
  ASSERT_EQ(code_of([&] { decode_manifest(text + "\n"); }), ExitCode::kCheckpointRefused);
}

TEST_F(Corruption, FlippedBitsInEveryRegionOfEveryFile) {
  std::mt19937 random(1);
  const Manifest manifest = load_manifest(folder);
  for (const FileEntry& entry : manifest.files) {
    const std::string& text = files[entry.name];
    for (std::size_t region = 0; region < text.size(); region += 64) {
      std::string flipped = text;
      const std::size_t at = std::min(region + random() % 64, text.size() - 1);
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << random() % 8));
      write_text(folder / entry.name, flipped);
      ASSERT_EQ(code_of([&] { read_verified(folder, entry); }), ExitCode::kCheckpointRefused);
      ASSERT_EQ(code_of([&] { verify_file(folder, entry, false); }), ExitCode::kCheckpointRefused);
    }
    expect_detected(entry.name);
    restore();
  }
}

TEST_F(Corruption, Truncations) {
  for (const auto& [name, text] : files)
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, text.size() / 2, text.size() - 1}) {
      write_text(folder / name, text.substr(0, size));
      expect_detected(name + " " + std::to_string(size));
      restore();
    }
}

TEST_F(Corruption, LongerFile) {
  for (const auto& [name, text] : files) {
    write_text(folder / name, text + '\0');
    expect_detected(name);
    restore();
  }
}

TEST_F(Corruption, MissingFile) {
  for (const auto& [name, text] : files) {
    fs::remove(folder / name);
    expect_detected(name);
    restore();
  }
}

TEST_F(Corruption, FolderOrPipeInTheFilesPlace) {
  fs::remove(folder / "model.h5");
  fs::create_directory(folder / "model.h5");
  expect_detected("folder");
  fs::remove(folder / "model.h5");
  ASSERT_EQ(::mkfifo((folder / "model.h5").c_str(), 0600), 0);
  expect_detected("pipe");
}

TEST_F(Corruption, SwappedAndDuplicatedShards) {
  const std::string first = "optimizer-00000-of-00002.h5";
  const std::string second = "optimizer-00001-of-00002.h5";
  write_text(folder / first, files[second]);
  expect_detected("duplicated");
  write_text(folder / second, files[first]);
  expect_detected("swapped");
}

TEST_F(Corruption, FilesOfAnotherCheckpoint) {
  for (const auto& [name, text] : files) {
    if (name == kManifestName) continue;
    write_text(folder / name, read_text(run.path() / "checkpoints/step-00000001" / name));
    expect_detected(name);
    restore();
  }
  // A complete one is a checkpoint wherever it lies; the sequence tells which is newer.
  for (const auto& [name, text] : files)
    write_text(folder / name, read_text(run.path() / "checkpoints/step-00000001" / name));
  EXPECT_EQ(newest(run)->meta().step, 1);
}

TEST_F(Corruption, NoneValidIsRefused) {
  for (const char* step : {"step-00000001", "step-00000002"})
    write_text(run.path() / "checkpoints" / step / "model.h5", "not HDF5");
  std::string message;
  EXPECT_EQ(code_of([&] { newest(run); }, &message), ExitCode::kCheckpointRefused);
  EXPECT_THAT(message, testing::HasSubstr("no checkpoint in"));
}

// Damage after the check, and a rank that alone sees it: all ranks decide alike.
TEST_F(Corruption, AllRanksDecideAlike) {
  write_text(folder / "optimizer-00001-of-00002.h5", "damaged");
  for (const int size : {2, 3, 4})
    comm::run_local(size, [&](comm::Communicator& comm) {
      EXPECT_EQ(newest_valid(run.path(), comm, {})->meta().step, 1);
      std::string message;
      EXPECT_EQ(code_of([&] { open_checkpoint(folder, comm, {}); }, &message),
                ExitCode::kCheckpointRefused);
      EXPECT_THAT(message, testing::HasSubstr("optimizer-00001-of-00002.h5"));
    });
}

TEST_F(Corruption, ReadingVerifiesAgain) {
  const auto comm = comm::single_communicator();
  const Checkpoint checkpoint = open_checkpoint(folder, *comm, {});
  write_text(folder / "model.h5", files["model.h5"].substr(1));
  write_text(folder / "optimizer-00001-of-00002.h5", "damaged");
  EXPECT_EQ(code_of([&] { checkpoint.model(); }), ExitCode::kCheckpointRefused);
  std::vector<float> out(7);
  EXPECT_EQ(
      code_of([&] { checkpoint.read_range("momentum", "backbone.body.bn1.bias", 0, 7, out); }),
      ExitCode::kCheckpointRefused);
}

TEST(OpenCheckpoint, PathsOfEveryKind) {
  const TestFolder run;
  const auto comm = comm::single_communicator();
  EXPECT_FALSE(newest(run));
  EXPECT_EQ(code_of([&] { open_checkpoint(run.path() / "none", *comm, {}); }),
            ExitCode::kInputMissing);
  save_step(run, 1, 1, {}, /*best=*/true);
  save_step(run, 1, 2);
  EXPECT_EQ(open_checkpoint(run, *comm, {}).meta().step, 2);
  EXPECT_EQ(open_checkpoint(run.path() / "checkpoints/step-00000001", *comm, {}).meta().step, 1);
  EXPECT_EQ(open_checkpoint(run.path() / "checkpoints/best", *comm, {}).meta().step, 1);
  // A copy elsewhere is as good: the proof travels with it.
  const TestFolder elsewhere;
  fs::copy(run.path() / "checkpoints/step-00000002", elsewhere.path() / "copy",
           fs::copy_options::recursive);
  EXPECT_EQ(open_checkpoint(elsewhere.path() / "copy", *comm, {}).meta().step, 2);
}

TEST(OpenCheckpoint, FolderThatIsNone) {
  const TestFolder run;
  const auto comm = comm::single_communicator();
  EXPECT_EQ(code_of([&] { open_checkpoint(run, *comm, {}); }), ExitCode::kCheckpointRefused);
  fs::create_directory(run.path() / "checkpoints");
  EXPECT_EQ(code_of([&] { open_checkpoint(run, *comm, {}); }), ExitCode::kInputMissing);
}

}  // namespace
}  // namespace trainer
