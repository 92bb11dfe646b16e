#pragma once

#include <cstdint>
#include <vector>

namespace trainer {

// The fixed binary tree in which micro-batch gradients are added, whatever the number of ranks:
// node (level l, index i) is the sum over micro-batches [i 2^l, (i + 1) 2^l) cut to [0, M); a node
// whose right half is empty is its left half.
struct TreeNode {
  int level = 0;
  std::int64_t index = 0;
  bool operator==(const TreeNode&) const = default;
};

// Half-open range of micro-batches of one rank: [floor(r M / W), floor((r + 1) M / W)).
struct MicroBatches {
  std::int64_t begin = 0, end = 0;
  std::int64_t count() const { return end - begin; }
};
MicroBatches micro_batches_of(std::int64_t num_micro_batches, int rank, int num_ranks);

// Adds nodes, given in order of their micro-batches, as the tree prescribes. The stack decides; the
// caller adds: push() calls add(left, right), meaning slot left += slot right.
class TreeStack {
 public:
  explicit TreeStack(std::int64_t num_micro_batches) : num_micro_batches_(num_micro_batches) {}

  // The node becomes slot depth() of the stack, then siblings merge.
  template <typename Add>
  void push(TreeNode node, Add add) {
    nodes_.push_back(node);
    for (;;) {
      if (promote()) continue;
      const std::size_t n = nodes_.size();
      if (n < 2 || !siblings(nodes_[n - 2], nodes_[n - 1])) return;
      add(n - 2, n - 1);
      nodes_.pop_back();
      nodes_.back() = {nodes_.back().level + 1, nodes_.back().index / 2};
    }
  }
  const std::vector<TreeNode>& nodes() const { return nodes_; }
  void clear() { nodes_.clear(); }

 private:
  static bool siblings(const TreeNode& a, const TreeNode& b) {
    return a.level == b.level && a.index % 2 == 0 && b.index == a.index + 1;
  }
  // A left node whose right sibling is empty is its parent; the root has level ceil(log2 M).
  bool promote();

  std::int64_t num_micro_batches_;
  std::vector<TreeNode> nodes_;
};

// The maximal subtrees that a rank can finish alone, in order: what it sends to the shard owners.
std::vector<TreeNode> subtrees_of(std::int64_t num_micro_batches, const MicroBatches& range);

// Slots a rank needs beside the one where gradients are written: the largest number of nodes that
// wait while another micro-batch is computed.
int waiting_nodes(std::int64_t num_micro_batches, const MicroBatches& range);

}  // namespace trainer
