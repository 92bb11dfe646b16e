#pragma once

#include <memory>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "models/graph/executable.h"
#include "trainer/optim/gradient_tree.h"

namespace trainer {

// Merges the synchronised values of all micro-batches of a step, in the tree in which their
// gradients are added: the same bits on any number of ranks. Talks on a communicator of its own,
// because the optimizer's collectives start whenever they can.
class LockStep {
 public:
  // Collective. REQUIRES: this rank has micro-batches micro_batches_of(...).
  LockStep(comm::Communicator& communicator, std::int64_t num_micro_batches);

  // Collective: whether one rank cannot compute its micro-batches.
  bool any_failed(bool mine);
  // One value a local micro-batch, in their order; all become the merged one: moments of the union,
  // or the sum of their gradients. Collective, the same value on every rank.
  void merge(comm::StreamView stream, std::span<const models::SyncPoint> points);

 private:
  using Record = std::vector<double>;
  void add(Record& to, const Record& from, bool gradient) const;
  std::vector<Record> local_nodes(comm::StreamView stream,
                                  std::span<const models::SyncPoint> points) const;

  std::unique_ptr<comm::Communicator> communicator_;
  std::int64_t num_micro_batches_;
  MicroBatches range_;
  std::vector<std::vector<TreeNode>> nodes_of_rank_;
};

}  // namespace trainer
