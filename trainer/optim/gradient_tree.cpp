#include "trainer/optim/gradient_tree.h"

#include <algorithm>

namespace trainer {

MicroBatches micro_batches_of(std::int64_t num_micro_batches, int rank, int num_ranks) {
  return {rank * num_micro_batches / num_ranks, (rank + 1) * num_micro_batches / num_ranks};
}

bool TreeStack::promote() {
  TreeNode& top = nodes_.back();
  const bool is_root = top.index == 0 && (std::int64_t{1} << top.level) >= num_micro_batches_;
  const bool alone =
      top.index % 2 == 0 && ((top.index + 1) << top.level) >= num_micro_batches_;
  if (is_root || !alone) return false;
  top = {top.level + 1, top.index / 2};
  return true;
}

std::vector<TreeNode> subtrees_of(std::int64_t num_micro_batches, const MicroBatches& range) {
  TreeStack stack(num_micro_batches);
  for (std::int64_t m = range.begin; m < range.end; ++m) {
    stack.push({0, m}, [](std::size_t, std::size_t) {});
  }
  return stack.nodes();
}

int waiting_nodes(std::int64_t num_micro_batches, const MicroBatches& range) {
  TreeStack stack(num_micro_batches);
  std::size_t most = 0;
  for (std::int64_t m = range.begin; m + 1 < range.end; ++m) {
    stack.push({0, m}, [](std::size_t, std::size_t) {});
    most = std::max(most, stack.nodes().size());
  }
  return static_cast<int>(most);
}

}  // namespace trainer
