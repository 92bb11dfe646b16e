#include "trainer/checkpoint/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "tests/trainer/checkpoint/fault_layer.h"
#include "tests/trainer/checkpoint/test_run.h"

namespace trainer {
namespace {

using comm::ExitCode;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Store, PollCommitsWithoutWaiting) {
  const TestFolder run;
  comm::run_local(3, [&](comm::Communicator& comm) {
    CheckpointStore store(run, comm);
    TestState state(5);
    store.save_async(state.snapshot(comm.rank(), comm.size()));
    // The caller's memory is free: what training does to it next must not show.
    for (TestState::Tensor& t : state.tensors) std::ranges::fill(t.values, -1.0f);
    state.num_batches = -1;
    EXPECT_TRUE(store.in_flight());
    EXPECT_FALSE(store.committed_step());
    std::optional<std::int64_t> step;
    for (int i = 0; i < 10000 && !step; ++i) {
      std::this_thread::sleep_for(std::chrono::microseconds(100 * comm.rank()));
      step = store.poll();
    }
    EXPECT_EQ(step, 5);
    EXPECT_EQ(store.committed_step(), 5);
    EXPECT_FALSE(store.in_flight());
    EXPECT_FALSE(store.poll());
    EXPECT_FALSE(store.finish());
  });
  TestState(5).expect_equal(*newest(run));
  EXPECT_THAT(names_in(run.path() / "checkpoints/step-00000005"),
              ElementsAre("MANIFEST.json", "model.h5", "optimizer-00000-of-00003.h5",
                          "optimizer-00001-of-00003.h5", "optimizer-00002-of-00003.h5"));
}

TEST(Store, NextSaveFinishesTheOneInFlight) {
  const TestFolder run;
  comm::run_local(2, [&](comm::Communicator& comm) {
    CheckpointStore store(run, comm);
    for (const int step : {1, 2, 3}) {
      const TestState state(step);
      store.save_async(state.snapshot(comm.rank(), comm.size()));
    }
    EXPECT_EQ(store.committed_step(), 2);
    EXPECT_EQ(store.finish(), 3);
  });
  EXPECT_EQ(list_checkpoints(run).size(), 3u);
}

TEST(Store, DestructionDiscardsWhatIsNotCommitted) {
  const TestFolder run;
  save_step(run, 2, 1);
  comm::run_local(2, [&](comm::Communicator& comm) {
    CheckpointStore store(run, comm);
    const TestState state(2);
    store.save_async(state.snapshot(comm.rank(), comm.size()));
  });
  EXPECT_EQ(newest(run)->meta().step, 1);
}

TEST(Store, KeepsTheNewestAndTheBest) {
  const TestFolder run;
  for (int step = 1; step <= 7; ++step)
    save_step(run, 2, step, {.keep = 2}, step == 2 || step == 3);
  EXPECT_THAT(names_in(run.path() / "checkpoints"),
              ElementsAre("best", "step-00000003", "step-00000006", "step-00000007"));
  EXPECT_EQ(fs::read_symlink(run.path() / "checkpoints/best"), "step-00000003");
}

TEST(Store, KeepZeroKeepsTheNewest) {
  const TestFolder run;
  for (int step = 1; step <= 3; ++step) save_step(run, 1, step, {.keep = 0});
  EXPECT_THAT(names_in(run.path() / "checkpoints"), ElementsAre("step-00000003"));
}

// A run that continues from an older checkpoint saves a step again: nothing is overwritten, and the
// newest commit counts, not the largest step.
TEST(Store, SameStepAgainGetsASuffix) {
  const TestFolder run;
  for (const int step : {5, 6, 5}) save_step(run, 1, step);
  EXPECT_THAT(names_in(run.path() / "checkpoints"),
              ElementsAre("step-00000005", "step-00000005-2", "step-00000006"));
  const Checkpoint found = std::move(*newest(run));
  EXPECT_EQ(found.folder().filename(), "step-00000005-2");
  EXPECT_THAT(list_checkpoints(run).back().native(), HasSubstr("step-00000005-2"));
}

TEST(Store, StartRemovesLeftoversAndMendsTheLink) {
  const TestFolder run;
  save_step(run, 2, 1, {}, true);
  const fs::path checkpoints = run.path() / "checkpoints";
  fs::create_directories(checkpoints / ".tmp-7-0123456789abcdef/deep");
  write_text(checkpoints / ".tmp-7-0123456789abcdef/model.h5", "half");
  fs::create_directory(checkpoints / ".trash-0123456789abcdef");
  fs::create_symlink("nowhere", checkpoints / ".tmp-best");
  fs::remove(checkpoints / "best");
  fs::create_symlink("step-00000099", checkpoints / "best");
  save_step(run, 2, 2);
  EXPECT_THAT(names_in(checkpoints), ElementsAre("best", "step-00000001", "step-00000002"));
  EXPECT_EQ(fs::read_symlink(checkpoints / "best"), "step-00000001");
}

TEST(Store, UnreadableFolderIsLeftForPeople) {
  const TestFolder run;
  save_step(run, 1, 1);
  const fs::path broken = run.path() / "checkpoints/step-00000002";
  fs::create_directory(broken);
  save_step(run, 1, 2, {.keep = 1});
  EXPECT_THAT(names_in(run.path() / "checkpoints"),
              ElementsAre("step-00000002", "step-00000002-2"));
  EXPECT_EQ(newest(run)->folder().filename(), "step-00000002-2");
}

// The disk is full for two saves: training goes on, the old checkpoint stays; the third works.
TEST(Store, FailedSavesAreSurvivedAndReported) {
  const TestFolder run;
  save_step(run, 2, 1);
  std::vector<std::string> notes;
  comm::run_local(2, [&](comm::Communicator& comm) {
    CheckpointStore store(run, comm,
                          {.notify = [&](const std::string& text) { notes.push_back(text); }});
    for (const int step : {2, 3, 4}) {
      comm.barrier();
      if (comm.rank() == 0 && step < 4)
        fault::arm({.folder = run.path(),
                    .action = fault::Action::kError,
                    .at = 2,
                    .from_then_on = true,
                    .error = ENOSPC});
      comm.barrier();
      const TestState state(step);
      store.save_async(state.snapshot(comm.rank(), comm.size()));
      const std::optional<std::int64_t> committed = store.finish();
      EXPECT_EQ(committed.has_value(), step == 4);
      comm.barrier();
      if (comm.rank() == 0) fault::disarm();
      comm.barrier();
      EXPECT_EQ(newest(run)->meta().step, step < 4 ? 1 : 4);
    }
  });
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_THAT(notes[0], HasSubstr("the checkpoint of step 2 was not saved"));
  EXPECT_THAT(notes[0], HasSubstr("No space left on device"));
  EXPECT_THAT(notes[1], HasSubstr("failure 2 of 3 in a row"));
}

TEST(Store, ThirdFailureInARowEndsTheRunOnEveryRank) {
  const TestFolder run;
  std::atomic<int> num_ended{0};
  comm::run_local(3, [&](comm::Communicator& comm) {
    CheckpointStore store(run, comm);
    comm.barrier();
    if (comm.rank() == 0)
      fault::arm({.folder = run.path(),
                  .action = fault::Action::kError,
                  .at = 3,
                  .from_then_on = true,
                  .error = EIO});
    comm.barrier();
    for (const int step : {1, 2, 3}) {
      const TestState state(step);
      std::string message;
      const ExitCode code = code_of(
          [&] {
            store.save_async(state.snapshot(comm.rank(), comm.size()));
            store.finish();
          },
          &message);
      EXPECT_EQ(code, step == 3 ? ExitCode::kIo : ExitCode::kDone);
      EXPECT_EQ(message.find("was not saved (3 in a row)") != std::string::npos, step == 3)
          << message;
      num_ended += code == ExitCode::kIo;
    }
    comm.barrier();
    if (comm.rank() == 0) fault::disarm();
  });
  EXPECT_EQ(num_ended, 3);
}

TEST(Store, FinalSaveMustSucceed) {
  const TestFolder run;
  save_step(run, 1, 1);
  fault::arm({.folder = run.path(), .action = fault::Action::kError, .at = 6, .error = EIO});
  EXPECT_EQ(code_of([&] { save_step(run, 1, 2); }), ExitCode::kIo);
  fault::disarm();
  EXPECT_EQ(newest(run)->meta().step, 1);
}

TEST(Store, FolderThatCannotBeWrittenFailsOnEveryRank) {
  const TestFolder run;
  write_text(run.path() / "checkpoints", "a file in the way");
  std::atomic<int> num_failed{0};
  comm::run_local(2, [&](comm::Communicator& comm) {
    num_failed += code_of([&] { CheckpointStore store(run, comm); }) == ExitCode::kIo;
  });
  EXPECT_EQ(num_failed, 2);
}

// A host whose file system shows the new folder late, as a link that appears only after a while.
TEST(Store, LateVisibilityIsWaitedFor) {
  const TestFolder run;
  const TestFolder other_view;
  save_step(run, 2, 1);
  comm::run_local(2, [&](comm::Communicator& comm) {
    fs::path view = run;
    std::thread late;
    if (comm.rank() == 1) {
      view = other_view.path() / "late";
      late = std::thread([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        fs::create_directory_symlink(run, other_view.path() / "late");
      });
    }
    const std::optional<Checkpoint> found = newest_valid(view, comm, {});
    EXPECT_EQ(found->meta().step, 1);
    if (late.joinable()) late.join();
  });
}

}  // namespace
}  // namespace trainer
