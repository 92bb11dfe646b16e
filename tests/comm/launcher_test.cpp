#include "comm/launcher.h"

#include <gtest/gtest.h>

#include <map>

#include "comm/error.h"

namespace comm {
namespace {

using Environment = std::map<std::string, std::string>;

Launcher read(const Environment& environment) {
  return launcher_from_environment([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

ExitCode started_as_one(const Environment& environment, std::string* message = nullptr) {
  try {
    require_same_size(read(environment), 1);
  } catch (const Error& error) {
    if (message != nullptr) *message = error.what();
    return error.code();
  }
  return ExitCode::kDone;
}

TEST(Launcher, NoneMeansOneRankWithoutMpi) {
  EXPECT_FALSE(read({}).serves_mpi);
  EXPECT_EQ(started_as_one({}), ExitCode::kDone);
}

TEST(Launcher, EachKnownOneServesMpi) {
  EXPECT_TRUE(read({{"OMPI_COMM_WORLD_SIZE", "2"}}).serves_mpi);
  EXPECT_TRUE(read({{"PMI_RANK", "0"}, {"PMI_SIZE", "4"}}).serves_mpi);
  EXPECT_TRUE(read({{"PMIX_RANK", "0"}}).serves_mpi);
  EXPECT_FALSE(read({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}).serves_mpi);
}

TEST(Launcher, SeveralRanksThatMpiDoesNotSeeAreAUsageError) {
  std::string message;
  EXPECT_EQ(started_as_one({{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "4"}}, &message),
            ExitCode::kUsage);
  EXPECT_NE(message.find("SLURM_NTASKS=4"), std::string::npos);
  EXPECT_NE(message.find("--mpi=pmix"), std::string::npos);
  EXPECT_EQ(started_as_one({{"OMPI_COMM_WORLD_SIZE", "2"}}), ExitCode::kUsage);
  EXPECT_EQ(started_as_one({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), ExitCode::kUsage);
}

TEST(Launcher, TheInnermostOneDecides) {
  EXPECT_EQ(
      started_as_one({{"OMPI_COMM_WORLD_SIZE", "1"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}),
      ExitCode::kDone);
  EXPECT_EQ(
      started_as_one({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_NTASKS", "8"}}),
      ExitCode::kDone);
}

TEST(Launcher, AnAllocationIsNotALauncher) {
  EXPECT_EQ(started_as_one({{"SLURM_NTASKS", "8"}}), ExitCode::kDone);  // a shell of salloc
  EXPECT_EQ(started_as_one({{"WORLD_SIZE", "8"}}), ExitCode::kDone);
  EXPECT_EQ(started_as_one({{"RANK", "0"}, {"WORLD_SIZE", "many"}}), ExitCode::kDone);
}

}  // namespace
}  // namespace comm
