#include "trainer/optim/gradient_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace trainer {
namespace {

constexpr std::int64_t kNumMicroBatches[] = {1, 2, 3, 5, 8, 24};
constexpr int kNumRanks[] = {1, 2, 3, 4, 5, 8};

// The definition, top down: node (level, index) covers [index 2^level, (index + 1) 2^level).
std::string expression(int level, std::int64_t index, std::int64_t num_micro_batches) {
  if (level == 0) return std::to_string(index);
  const std::string left = expression(level - 1, 2 * index, num_micro_batches);
  if ((2 * index + 1) << (level - 1) >= num_micro_batches) return left;
  return "(" + left + "+" + expression(level - 1, 2 * index + 1, num_micro_batches) + ")";
}

int root_level(std::int64_t num_micro_batches) {
  int level = 0;
  while (std::int64_t{1} << level < num_micro_batches) ++level;
  return level;
}

// A stack that adds texts: what is added, and in which order, stays readable.
class TextStack {
 public:
  explicit TextStack(std::int64_t num_micro_batches) : stack_(num_micro_batches) {}

  void push(TreeNode node, std::string text) {
    texts_.push_back(std::move(text));
    stack_.push(node, [&](std::size_t left, std::size_t right) {
      EXPECT_EQ(right + 1, texts_.size());
      texts_[left] = "(" + texts_[left] + "+" + texts_[right] + ")";
      texts_.pop_back();
    });
    EXPECT_EQ(texts_.size(), stack_.nodes().size());
  }
  const std::vector<std::string>& texts() const { return texts_; }
  const std::vector<TreeNode>& nodes() const { return stack_.nodes(); }

 private:
  TreeStack stack_;
  std::vector<std::string> texts_;
};

TextStack local_sums(std::int64_t num_micro_batches, const MicroBatches& range) {
  TextStack stack(num_micro_batches);
  for (std::int64_t m = range.begin; m < range.end; ++m) stack.push({0, m}, std::to_string(m));
  return stack;
}

TEST(GradientTree, DefinitionByHand) {
  EXPECT_EQ(expression(3, 0, 5), "(((0+1)+(2+3))+4)");
  EXPECT_EQ(expression(root_level(1), 0, 1), "0");
}

TEST(GradientTree, EveryNumberOfRanksAddsTheSameExpression) {
  for (std::int64_t m : kNumMicroBatches) {
    for (int ranks : kNumRanks) {
      if (ranks > m) continue;
      TextStack owner(m);
      for (int r = 0; r < ranks; ++r) {
        const MicroBatches range = micro_batches_of(m, r, ranks);
        const TextStack local = local_sums(m, range);
        ASSERT_EQ(local.nodes(), subtrees_of(m, range)) << m << " on " << ranks << ", rank " << r;
        for (std::size_t n = 0; n < local.nodes().size(); ++n) {
          owner.push(local.nodes()[n], local.texts()[n]);
        }
      }
      ASSERT_EQ(owner.texts().size(), 1u) << m << " on " << ranks;
      EXPECT_EQ(owner.texts()[0], expression(root_level(m), 0, m)) << m << " on " << ranks;
      EXPECT_EQ(owner.nodes()[0], (TreeNode{root_level(m), 0}));
    }
  }
}

TEST(GradientTree, RanksShareMicroBatchesWithoutGapOrOverlap) {
  for (std::int64_t m : kNumMicroBatches) {
    for (int ranks : kNumRanks) {
      if (ranks > m) continue;
      std::int64_t next = 0;
      for (int r = 0; r < ranks; ++r) {
        const MicroBatches range = micro_batches_of(m, r, ranks);
        EXPECT_EQ(range.begin, next);
        EXPECT_GE(range.count(), m / ranks);
        EXPECT_LE(range.count(), m / ranks + 1);
        next = range.end;
      }
      EXPECT_EQ(next, m);
    }
  }
}

// Maximal: no two neighbours among a rank's subtrees could have been merged by the rank.
TEST(GradientTree, SubtreesAreMaximal) {
  EXPECT_EQ(subtrees_of(8, {0, 4}), (std::vector<TreeNode>{{2, 0}}));
  EXPECT_EQ(subtrees_of(8, {2, 5}), (std::vector<TreeNode>{{1, 1}, {0, 4}}));
  EXPECT_EQ(subtrees_of(5, {3, 5}), (std::vector<TreeNode>{{0, 3}, {2, 1}}));  // 4 stands alone
  EXPECT_EQ(subtrees_of(1, {0, 1}), (std::vector<TreeNode>{{0, 0}}));
  EXPECT_TRUE(subtrees_of(8, {3, 3}).empty());
}

// What waits while another micro-batch is computed, counted on the stack itself.
TEST(GradientTree, WaitingNodesAreTheDeepestStackBeforeTheLastMicroBatch) {
  EXPECT_EQ(waiting_nodes(1, {0, 1}), 0);
  EXPECT_EQ(waiting_nodes(8, {0, 8}), 3);
  EXPECT_EQ(waiting_nodes(24, {0, 24}), 4);
  for (std::int64_t m : kNumMicroBatches) {
    const MicroBatches all{0, m};
    TextStack stack(m);
    std::size_t most = 0;
    for (std::int64_t i = 0; i + 1 < m; ++i) {
      stack.push({0, i}, "");
      most = std::max(most, stack.nodes().size());
    }
    EXPECT_EQ(waiting_nodes(m, all), static_cast<int>(most)) << m;
  }
}

TEST(GradientTree, StackStartsAgainAfterClear) {
  TreeStack stack(2);
  const auto none = [](std::size_t, std::size_t) {};
  stack.push({0, 0}, none);
  stack.clear();
  EXPECT_TRUE(stack.nodes().empty());
  stack.push({0, 0}, none);
  stack.push({0, 1}, none);
  EXPECT_EQ(stack.nodes(), (std::vector<TreeNode>{{1, 0}}));
}

}  // namespace
}  // namespace trainer
