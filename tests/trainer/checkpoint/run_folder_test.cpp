#include "trainer/checkpoint/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "tests/trainer/checkpoint/test_run.h"

namespace trainer {
namespace {

using comm::ExitCode;
using testing::HasSubstr;

// A process that holds the folder until it is killed. Returns once it does.
pid_t start_owner(const fs::path& path) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto comm = comm::single_communicator();
    const RunFolder folder(path, *comm, {});
    if (::write(ends[1], "x", 1) != 1) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  char byte = 0;
  EXPECT_EQ(::read(ends[0], &byte, 1), 1);
  ::close(ends[0]);
  ::close(ends[1]);
  return child;
}

TEST(RunFolder, CreatesAndReleases) {
  const TestFolder parent;
  const fs::path out = parent.path() / "runs/name";
  const auto comm = comm::single_communicator();
  for (int i = 0; i < 2; ++i) {
    std::vector<std::string> notes;
    const RunFolder folder(out, *comm, [&](const std::string& text) { notes.push_back(text); });
    EXPECT_TRUE(fs::is_directory(out));
    EXPECT_FALSE(folder.holds_run());
    folder.require_fresh();
    EXPECT_TRUE(notes.empty()) << notes[0];
  }
}

TEST(RunFolder, SecondRunIsRefusedAndToldWhoHoldsIt) {
  const TestFolder out;
  const pid_t owner = start_owner(out);
  for (const int size : {1, 3}) {
    std::atomic<int> num_refused{0};
    comm::run_local(size, [&](comm::Communicator& comm) {
      std::string message;
      num_refused += code_of([&] { RunFolder(out, comm, {}); }, &message) == ExitCode::kOutputBusy;
      EXPECT_THAT(message, HasSubstr(fmt::format("process {} on {}", owner, comm.host(0))));
    });
    EXPECT_EQ(num_refused, size);
  }
  ::kill(owner, SIGKILL);
  ASSERT_EQ(::waitpid(owner, nullptr, 0), owner);
  // A killed owner holds nothing; the next run says that it found its name.
  const auto comm = comm::single_communicator();
  std::vector<std::string> notes;
  const RunFolder folder(out, *comm, [&](const std::string& text) { notes.push_back(text); });
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("ended without cleaning up"));
}

TEST(RunFolder, OfManyAtOnceExactlyOneProceeds) {
  for (int round = 0; round < 20; ++round) {
    const TestFolder out;
    int start[2], stop[2], result[2];
    ASSERT_TRUE(::pipe(start) == 0 && ::pipe(stop) == 0 && ::pipe(result) == 0);
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
      children.push_back(::fork());
      if (children.back() != 0) continue;
      ::close(start[1]);
      ::close(stop[1]);
      char byte = 0;
      if (::read(start[0], &byte, 1) != 0) ::_exit(1);
      const auto comm = comm::single_communicator();
      const ExitCode code = code_of([&] {
        const RunFolder folder(out.path() / "run", *comm, {});
        if (::write(result[1], "y", 1) != 1 || ::read(stop[0], &byte, 1) != 0) ::_exit(1);
      });
      if (code == ExitCode::kOutputBusy && ::write(result[1], "n", 1) != 1) ::_exit(1);
      ::_exit(0);
    }
    ::close(start[1]);
    std::string answers(children.size(), ' ');
    for (char& answer : answers) ASSERT_EQ(::read(result[0], &answer, 1), 1);
    ::close(stop[1]);
    for (const pid_t child : children) ::waitpid(child, nullptr, 0);
    EXPECT_EQ(std::ranges::count(answers, 'y'), 1) << answers;
    for (const int end : {start[0], stop[0], result[0], result[1]}) ::close(end);
  }
}

TEST(RunFolder, KnowsARunWhenItSeesOne) {
  const TestFolder saved;
  const TestFolder logged;
  save_step(saved, 1, 1);
  write_text(logged.path() / "metrics.jsonl", "{}\n");
  for (const TestFolder* out : {&saved, &logged})
    comm::run_local(2, [&](comm::Communicator& comm) {
      const RunFolder folder(*out, comm, {});
      EXPECT_TRUE(folder.holds_run());
      EXPECT_EQ(code_of([&] { folder.require_fresh(); }), ExitCode::kOutputBusy);
    });
}

TEST(RunFolder, CannotBeCreated) {
  const TestFolder parent;
  write_text(parent.path() / "file", "");
  std::atomic<int> num_refused{0};
  comm::run_local(2, [&](comm::Communicator& comm) {
    std::string message;
    num_refused += code_of([&] { RunFolder(parent.path() / "file/run", comm, {}); }, &message) ==
                   ExitCode::kOutputBusy;
    EXPECT_THAT(message, HasSubstr("cannot create the output folder"));
  });
  EXPECT_EQ(num_refused, 2);
}

// Each rank has a folder of this name, but not the same one. Takes the visibility limit, 10 s.
TEST(RunFolder, NotSharedByAllRanksIsRefused) {
  const TestFolder host_a;
  const TestFolder host_b;
  std::atomic<int> num_refused{0};
  comm::run_local(3, [&](comm::Communicator& comm) {
    std::string message;
    const fs::path& mine = comm.rank() == 2 ? host_b : host_a;
    num_refused += code_of([&] { RunFolder(mine, comm, {}); }, &message) == ExitCode::kOutputBusy;
    EXPECT_THAT(message, HasSubstr("rank 2"));
    EXPECT_THAT(message, HasSubstr("shared file system"));
  });
  EXPECT_EQ(num_refused, 3);
  EXPECT_THAT(names_in(host_a), testing::ElementsAre("LOCK"));
  const auto comm = comm::single_communicator();
  RunFolder(host_a, *comm, {});  // the refusal has released it
}

}  // namespace
}  // namespace trainer
