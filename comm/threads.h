#pragma once

#include "comm/communicator.h"

namespace comm {

// Which of the ranks on its own host a rank is, and how many they are.
struct LocalRank {
  int rank = 0;
  int size = 1;
};
LocalRank local_rank(const Communicator& communicator);

// `runtime.threads: 0` resolved, the same on every rank (the bits of a run depend on it): the
// fewest, over the ranks, of the rank's own cores where the masks of its host are disjoint, else
// of cores / ranks of the host; at least 1. Collective.
int default_threads(Communicator& communicator);

// While it lives, OpenMP gives one thread to what the calling thread runs in parallel.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

}  // namespace comm
