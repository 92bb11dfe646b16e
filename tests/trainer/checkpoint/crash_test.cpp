#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "tests/trainer/checkpoint/fault_layer.h"
#include "tests/trainer/checkpoint/test_run.h"
#include "trainer/checkpoint/durable_file.h"

namespace trainer {
namespace {

constexpr std::int64_t kOld = 1;
constexpr std::int64_t kNew = 2;

// keep = 1 and best: removal of the old one and the change of the link are under fire as well.
const StoreOptions kOptions{.keep = 1};

struct Outcome {
  int signal = 0;
  int code = 0;
  long num_calls = 0;
};

// Runs `work` in a child process with the fault armed.
template <typename Work>
Outcome run_child(const fault::Plan& plan, Work&& work) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    fault::arm(plan);
    const int code = static_cast<int>(code_of(work));
    const long count = fault::disarm();
    const bool told = ::write(ends[1], &count, sizeof count) == sizeof count;
    ::_exit(told ? code : 1);
  }
  ::close(ends[1]);
  Outcome outcome;
  if (::read(ends[0], &outcome.num_calls, sizeof outcome.num_calls) <= 0) outcome.num_calls = -1;
  ::close(ends[0]);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  outcome.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  return outcome;
}

// The step of the checkpoint that a restart finds, complete to the bit.
std::int64_t restart_finds(const fs::path& run) {
  const std::optional<Checkpoint> found = newest(run);
  EXPECT_TRUE(found);
  if (!found) return 0;
  TestState(found->meta().step).expect_equal(*found);
  return found->meta().step;
}

class Crash : public testing::TestWithParam<int> {
 protected:
  Crash() { save_step(base, GetParam(), kOld, kOptions, true); }

  // The folder as before the save under fire.
  fs::path fresh() {
    const fs::path run = work.path() / "run";
    fs::remove_all(run);
    fs::copy(base, run, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    return run;
  }
  Outcome save_under_fire(const fs::path& run, fault::Plan plan) {
    plan.folder = run / "checkpoints";
    return run_child(plan, [&] { save_step(run, GetParam(), kNew, kOptions, true); });
  }
  // Whatever was left behind stops neither loading nor the next save, and is gone after it.
  void expect_usable(const fs::path& run, const std::string& what) {
    SCOPED_TRACE(what);
    const std::int64_t step = restart_finds(run);
    EXPECT_TRUE(step == kOld || step == kNew);
    const auto comm = comm::single_communicator();
    EXPECT_NO_THROW(open_checkpoint(run / "checkpoints/best", *comm, {}));
    save_step(run, GetParam(), 3, kOptions);
    EXPECT_EQ(restart_finds(run), 3);
    for (const std::string& name : names_in(run / "checkpoints")) EXPECT_NE(name[0], '.');
  }

  TestFolder base;
  TestFolder work;
};

TEST_P(Crash, KillAtEveryCallLeavesOldOrNew) {
  const long num_calls = save_under_fire(fresh(), {}).num_calls;
  int num_old = 0;
  int num_points = 0;
  for (const fault::Action action : {fault::Action::kKill, fault::Action::kTornKill})
    for (long at = 0; at < num_calls; ++at) {
      const fs::path run = fresh();
      const Outcome outcome = save_under_fire(run, {.action = action, .at = at});
      if (action == fault::Action::kTornKill && outcome.signal == 0) continue;  // not a write
      ASSERT_EQ(outcome.signal, SIGKILL) << at;
      num_old += restart_finds(run) == kOld;
      ++num_points;
      expect_usable(run, "killed at call " + std::to_string(at));
    }
  // Both outcomes happen; the parameters (1, 2, 3, 4 ranks) have more than 250 points together.
  EXPECT_GT(num_old, 0);
  EXPECT_LT(num_old, num_points);
  EXPECT_GE(num_points, 45 + 11 * (GetParam() - 1));
  RecordProperty("kill_points", num_points);
}

// One call fails, or every call from then on. The save ends with 0 or 74, never by a signal; when
// it says 0 the new checkpoint is there.
TEST_P(Crash, ErrorAtEveryCallIsReportedOrHarmless) {
  const long num_calls = save_under_fire(fresh(), {}).num_calls;
  for (const int error : {ENOSPC, EIO, EINTR})
    for (const bool from_then_on : {false, true}) {
      if (error == EINTR && from_then_on) continue;  // a call that is interrupted for ever
      for (long at = 0; at < num_calls; ++at) {
        const fs::path run = fresh();
        const Outcome outcome = save_under_fire(run, {.action = fault::Action::kError,
                                                      .at = at,
                                                      .from_then_on = from_then_on,
                                                      .error = error});
        ASSERT_EQ(outcome.signal, 0) << at;
        ASSERT_TRUE(outcome.code == 0 || outcome.code == 74) << outcome.code;
        EXPECT_TRUE(outcome.code == 74 || restart_finds(run) == kNew) << at;
        expect_usable(run, fmt::format("{} at call {}", error, at));
      }
    }
}

TEST_P(Crash, ShortWritesAreContinued) {
  const long num_calls = save_under_fire(fresh(), {}).num_calls;
  for (long at = 0; at < num_calls; ++at) {
    const fs::path run = fresh();
    EXPECT_EQ(save_under_fire(run, {.action = fault::Action::kShortWrite, .at = at}).code, 0);
    EXPECT_EQ(restart_finds(run), kNew);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, Crash, testing::Values(1, 2, 3, 4));

// Negative control: the same files and checks, but the save overwrites the only checkpoint in
// place, manifest first. The harness must find points where neither old nor new is left.
TEST(CrashNegativeControl, SavingInPlaceIsCaught) {
  const TestFolder source;
  const TestFolder work;
  save_step(source, 1, kNew);
  const fs::path from = source.path() / "checkpoints/step-00000002";
  const fs::path run = work.path() / "run";
  const fs::path into = run / "checkpoints/step-00000001";
  const auto save_in_place = [&] {
    for (const char* name : {"MANIFEST.json", "model.h5", "optimizer-00000-of-00001.h5"}) {
      const std::string text = read_text(from / name);
      write_durably(into / name, std::as_bytes(std::span(text)));
    }
  };
  int num_lost = 0;
  for (long at = 0;; ++at) {
    fs::remove_all(run);
    save_step(run, 1, kOld);
    const Outcome outcome =
        run_child({.folder = run, .action = fault::Action::kKill, .at = at}, save_in_place);
    if (outcome.signal == 0) break;
    num_lost += code_of([&] { newest(run); }) == comm::ExitCode::kCheckpointRefused;
  }
  EXPECT_GT(num_lost, 5);
}

}  // namespace
}  // namespace trainer
