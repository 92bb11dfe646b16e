#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "comm/communicator_mpi.h"
#include "tests/comm/communicator_contract.h"

// The contract over MPI_COMM_WORLD; every rank runs the same tests in the same order.
//   mpirun -np N test_comm_mpi [--pieces=COUNT]
namespace comm {
namespace {

Communicator* g_world = nullptr;

class MpiContract : public testing::TestWithParam<contract::Named> {};

TEST_P(MpiContract, Holds) { GetParam().check(*g_world); }

TEST_P(MpiContract, HoldsInAPart) {
  const auto part = g_world->split(g_world->rank() % 3 == 0 ? 0 : 1);
  GetParam().check(*part);
}

INSTANTIATE_TEST_SUITE_P(All, MpiContract, testing::ValuesIn(contract::kAll),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(MpiCommunicator, HasTheRanksItWasStartedWith) {
  const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
  if (size == nullptr) GTEST_SKIP() << "not started by Open MPI's mpirun";
  EXPECT_EQ(g_world->size(), std::atoi(size));
}

TEST(MpiCommunicator, ARequestLeftBehindIsCancelled) {  // only after an error, but then safely
  if (g_world->size() == 1) return;
  std::vector<float> data(10, 5);
  const Message never{(g_world->rank() + 1) % g_world->size(), data};
  { const auto request = g_world->exchange({}, {&never, 1}, 77); }
  g_world->barrier();
  EXPECT_EQ(data, std::vector<float>(10, 5));
}

}  // namespace
}  // namespace comm

int main(int argc, char** argv) {
  std::size_t max_count = comm::kMaxMpiCount;
  testing::InitGoogleTest(&argc, argv);
  constexpr const char* kPieces = "--pieces=";
  if (argc > 1 && std::strncmp(argv[1], kPieces, std::strlen(kPieces)) == 0)
    max_count = std::strtoull(argv[1] + std::strlen(kPieces), nullptr, 10);
  const auto world = comm::mpi_communicator(&argc, &argv, max_count);
  comm::g_world = world.get();
  if (world->rank() != 0)
    delete testing::UnitTest::GetInstance()->listeners().Release(
        testing::UnitTest::GetInstance()->listeners().default_result_printer());
  std::vector<std::int64_t> failed = {RUN_ALL_TESTS()};
  world->all_reduce(failed, comm::Reduction::kMax);
  return static_cast<int>(failed[0]);
}
