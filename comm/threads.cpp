#include "comm/threads.h"

#include <fmt/ranges.h>
#include <omp.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "comm/device.h"

namespace comm {

LocalRank local_rank(const Communicator& communicator) {
  const std::string host = communicator.host(communicator.rank());
  LocalRank local{0, 0};
  for (int rank = 0; rank < communicator.size(); ++rank) {
    if (communicator.host(rank) != host) continue;
    if (rank < communicator.rank()) ++local.rank;
    ++local.size;
  }
  return local;
}

int default_threads(Communicator& communicator) {
  const std::vector<int> own = cpu_info().cores;
  const auto masks = communicator.all_gather(fmt::format("{}", fmt::join(own, " ")));
  const std::string host = communicator.host(communicator.rank());
  std::set<int> all;
  std::size_t num_listed = 0;
  for (int rank = 0; rank < communicator.size(); ++rank) {
    if (communicator.host(rank) != host) continue;
    std::istringstream mask(masks[static_cast<std::size_t>(rank)]);
    for (int core; mask >> core; ++num_listed) all.insert(core);
  }
  const bool disjoint = all.size() == num_listed;
  const std::size_t share =
      disjoint ? own.size() : all.size() / static_cast<std::size_t>(local_rank(communicator).size);
  std::int64_t threads = static_cast<std::int64_t>(std::max<std::size_t>(share, 1));
  communicator.all_reduce(std::span<std::int64_t>(&threads, 1), Reduction::kMin);
  return static_cast<int>(threads);
}

OneThread::OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }

OneThread::~OneThread() { omp_set_num_threads(before_); }

}  // namespace comm
