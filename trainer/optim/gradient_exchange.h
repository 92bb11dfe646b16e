#pragma once

#include <memory>
#include <vector>

#include "comm/buffer.h"
#include "comm/communicator.h"
#include "models/graph/executable.h"
#include "trainer/optim/gradient_tree.h"

namespace trainer {

// Sums gradients over micro-batches and ranks, bucket by bucket, each shard ending at its owner.
// exact: the fixed tree, the same bits on any number of ranks. fast: the library's order.
class GradientExchange {
 public:
  // `storage.gradients` is where the engine writes each micro-batch's gradients. On a GPU the
  // communicator is a comm::device_communicator, whose bulk verbs are in the order of the stream.
  GradientExchange(models::ParameterStorage& storage, comm::Communicator& communicator,
                   comm::StreamView stream, std::int64_t num_micro_batches, bool exact);

  void begin_step();  // forgets the last step's sums
  // Takes bucket k of the rank's next micro-batch; after its last one the exchange starts.
  // ASYNC: storage.gradients' bucket k must not be written between the last take and reduced().
  void take(int bucket) { take(bucket, true); }
  // Instead of take: what it launched, of this micro-batch in an earlier step, was launched again.
  // REQUIRES: one rank.
  void taken_again(int bucket) { take(bucket, false); }
  // True when the bucket's shard is complete or can be completed now without waiting.
  bool ready(int bucket);
  // Waits for the exchange and finishes the tree. The sum over all micro-batches of this rank's
  // shard, whole blocks; valid until begin_step.
  std::span<const float> reduced(int bucket);

  bool all_started() const;  // every bucket was taken for the last time in this step

  std::int64_t local_micro_batches() const { return range_.count(); }
  std::span<float> shard_of(const comm::Buffer& whole, int bucket) const;

 private:
  struct Pending {
    TreeStack stack;
    std::vector<float*> where;  // memory of each node on the stack
    std::int64_t taken = 0;
    std::unique_ptr<comm::Request> request;
    comm::Buffer received;
  };
  std::int64_t shard_size(int bucket, int rank) const;
  void merge(float* to, const float* from, std::int64_t count) const;
  void take(int bucket, bool launches);
  void keep(Pending& pending, int bucket, bool launches);
  void start_exact(Pending& pending, int bucket);
  void start_fast(Pending& pending, int bucket);
  std::span<const float> finish_tree(Pending& pending, int bucket);

  models::ParameterStorage& storage_;
  const models::ParameterLayout& layout_;
  comm::Communicator& communicator_;
  comm::StreamView stream_;
  std::int64_t num_micro_batches_;
  bool exact_;
  MicroBatches range_;
  std::vector<std::vector<TreeNode>> nodes_of_rank_;
  std::vector<comm::Buffer> waiting_;  // nodes that wait for their siblings
  std::vector<Pending> pending_;       // per bucket
};

}  // namespace trainer
