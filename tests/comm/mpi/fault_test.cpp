#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

// What happens to a job when a rank is hurt. FAULT_PROGRAM and MPIRUN are paths given by CMake.
namespace comm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::duration;
using std::chrono::milliseconds;

struct Outcome {
  int exit_code = -1;
  double seconds = 0;
  std::string output;  // stdout and stderr of all ranks

  long lines_with(const std::string& text) const {
    long count = 0;
    for (auto at = output.find(text); at != std::string::npos; at = output.find(text, at + 1))
      ++count;
    return count;
  }
};

// A process whose output is read as it comes.
class Job {
 public:
  explicit Job(const std::vector<std::string>& words) {
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    int ends[2];
    if (pipe(ends) != 0) ADD_FAILURE() << "pipe";
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      close(ends[0]);
      close(ends[1]);
      // Open MPI refuses root without these.
      setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
      setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
      execvp(arguments[0], arguments.data());
      _exit(127);
    }
    close(ends[1]);
    output_ = ends[0];
  }
  ~Job() { close(output_); }

  void signal(int number) const { kill(pid_, number); }
  void wait_for(const std::string& text) {
    while (outcome_.output.find(text) == std::string::npos && read_some()) {
    }
  }
  Outcome finish() {
    while (read_some()) {
    }
    int status = 0;
    waitpid(pid_, &status, 0);
    outcome_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    outcome_.seconds = duration<double>(Clock::now() - start_).count();
    return outcome_;
  }

 private:
  bool read_some() {
    char buffer[4096];
    const ssize_t count = read(output_, buffer, sizeof(buffer));
    if (count > 0) outcome_.output.append(buffer, static_cast<std::size_t>(count));
    return count > 0;
  }

  pid_t pid_ = -1;
  int output_ = -1;
  Clock::time_point start_ = Clock::now();
  Outcome outcome_;
};

constexpr const char* kLimitMs = "2000";

// What fault_program is told.
struct Fault {
  std::string name;
  int rank = 0;
  const char* steps = "100000";  // far more than the fault leaves
  const char* limit_ms = kLimitMs;
};

std::vector<std::string> job(int ranks, const Fault& fault) {
  return {MPIRUN,
          "-q",
          "--oversubscribe",
          "--bind-to",
          "none",
          "-np",
          std::to_string(ranks),
          FAULT_PROGRAM,
          fault.steps,
          fault.limit_ms,
          fault.name,
          std::to_string(fault.rank)};
}

Outcome run(int ranks, const Fault& fault) { return Job(job(ranks, fault)).finish(); }

TEST(Faults, NoneNoAlarm) {
  const Outcome outcome = run(4, {"none", 0, "1000"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(outcome.output, "running\n");
}

TEST(Faults, ALongCheckpointIsNoAlarm) {
  const Outcome outcome = run(2, {"long", 1, "40"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_GT(outcome.seconds, 6);
}

class NamedFault : public testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(NamedFault, EndsTheJobWith76AndOneLine) {
  const auto [fault, rank] = GetParam();
  const Outcome outcome = run(3, {fault, rank});
  EXPECT_EQ(outcome.exit_code, 76) << outcome.output;
  EXPECT_EQ(outcome.lines_with("error["), 1) << outcome.output;
  EXPECT_EQ(outcome.lines_with("error[76] rank " + std::to_string(rank) + "/3 host "), 1)
      << outcome.output;
  if (fault == std::string("stuck"))  // a stopped one is known up to its last beat
    EXPECT_EQ(outcome.lines_with(" step 20: no progress"), 1) << outcome.output;
  else
    EXPECT_EQ(outcome.lines_with(": not heard of for "), 1) << outcome.output;
  // Start (0.3 s), 20 steps, the limit, 2 s, and what a loaded machine takes to end processes.
  EXPECT_LT(outcome.seconds, 2 + 2 + 4);
}

INSTANTIATE_TEST_SUITE_P(All, NamedFault,
                         testing::Values(std::pair("stop", 0), std::pair("stop", 2),
                                         std::pair("stuck", 0), std::pair("stuck", 1)),
                         [](const auto& info) {
                           return std::string(info.param.first) + "_of_rank_" +
                                  std::to_string(info.param.second);
                         });

TEST(Faults, AKilledRankEndsTheJob) {
  for (const int rank : {0, 1}) {
    const Outcome outcome = run(3, {"kill", rank});
    EXPECT_EQ(outcome.exit_code, 137) << outcome.output;
    EXPECT_EQ(outcome.lines_with("running"), 1) << outcome.output;
    EXPECT_LT(outcome.seconds, 5);
  }
}

TEST(Faults, AnErrorOfOneRankEndsTheJobWithItsCode) {
  // mpirun takes up to 2 s to act on a rank that left: a limit beyond that.
  const Outcome outcome = run(3, {"throw", 1, "100000", "20000"});
  EXPECT_EQ(outcome.exit_code, 65) << outcome.output;
  EXPECT_EQ(outcome.lines_with("error["), 1) << outcome.output;
  EXPECT_LT(outcome.seconds, 6);
}

TEST(Faults, AbortEndsTheJobWithItsCode) {
  const Outcome outcome = run(3, {"abort", 2});
  EXPECT_EQ(outcome.exit_code, 79) << outcome.output;
  EXPECT_LT(outcome.seconds, 5);
}

TEST(Faults, StopRequestOfOneRankStopsAll) { EXPECT_EQ(run(3, {"signal", 1}).exit_code, 75); }

TEST(Faults, Usr1ToMpirunStopsAll) {
  Job running(job(2, {"none"}));
  running.wait_for("running");
  running.signal(SIGUSR1);
  const Outcome outcome = running.finish();
  EXPECT_EQ(outcome.exit_code, 75) << outcome.output;
  EXPECT_EQ(outcome.lines_with("error["), 0) << outcome.output;
}

TEST(Launch, WithoutALauncherOneRankRunsAndNeedsNoMpi) {
  const Outcome outcome =
      Job({"env", "-i", "PATH=/nonexistent", FAULT_PROGRAM, "30", kLimitMs, "none", "0"}).finish();
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(outcome.output, "running\n");
}

TEST(Launch, SlurmWithoutPmixIsNamed) {
  const Outcome outcome =
      Job({"env", "SLURM_PROCID=0", "SLURM_NTASKS=4", FAULT_PROGRAM, "30", kLimitMs, "none", "0"})
          .finish();
  EXPECT_EQ(outcome.exit_code, 64) << outcome.output;
  EXPECT_EQ(outcome.lines_with("SLURM_NTASKS=4 but MPI says 1 rank"), 1) << outcome.output;
}

TEST(Launch, ALauncherOfAnotherMpiIsNamed) {
  const Outcome outcome =
      Job({"env", "OMPI_COMM_WORLD_SIZE=2", FAULT_PROGRAM, "30", kLimitMs, "none", "0"}).finish();
  EXPECT_EQ(outcome.exit_code, 64) << outcome.output;
  EXPECT_EQ(outcome.lines_with("OMPI_COMM_WORLD_SIZE=2 but MPI says 1 rank"), 1) << outcome.output;
}

}  // namespace
}  // namespace comm
