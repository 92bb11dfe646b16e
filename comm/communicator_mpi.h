#pragma once

#include <cstddef>

#include "comm/communicator.h"

namespace comm {

// Most elements a single MPI call moves; its counts are int. Larger spans go in pieces.
inline constexpr std::size_t kMaxMpiCount = std::size_t{1} << 30;

// MPI_COMM_WORLD, whatever the environment says; see launch_communicator. `max_count` is for tests.
std::unique_ptr<Communicator> mpi_communicator(int* argc, char*** argv,
                                               std::size_t max_count = kMaxMpiCount);

}  // namespace comm
