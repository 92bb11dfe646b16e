#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "comm/bf16.h"
#include "comm/buffer.h"
#include "models/graph/op.h"
#include "models/ops/folding.h"

namespace models {

// How the convolutions of a GPU read weights: in the order (O, R, S, I) where channels come last,
// else (O, I, R, S), as fp32 or bf16.
struct PackedOrder {
  bool channels_last = true;
  Type type = Type::kF32;
  bool operator==(const PackedOrder&) const = default;
};

// What is made of one WeightSource. Null: not wanted.
struct PackingJob {
  WeightSource source;
  PackedOrder order;
  std::byte* weight = nullptr;               // w' in the order
  float *scale = nullptr, *shift = nullptr;  // (O), both with a norm only
  comm::Bf16* narrow_shift = nullptr;        // (O), the shift or else the bias
};

// Packs all weights of an executable, few launches for all of them: a table says what each piece of
// work is. A group of jobs is what waits for the same buckets of parameters
// (KernelContext::buckets): whoever may read one of them may read all.
class WeightPacking {
 public:
  explicit WeightPacking(comm::StreamView stream) : stream_(stream) {}

  // The group of the job. REQUIRES: nothing was packed yet.
  int add(const PackingJob& job, const std::set<int>& buckets);
  // Recomputes the group, unless the parameters are those of its last time. The first call of all
  // allocates and copies, so it is not recorded.
  void pack(int group, std::int64_t version);

  struct Row;  // of the table

 private:
  struct Group {
    std::vector<PackingJob> jobs;
    std::int64_t first_piece = 0, num_pieces = 0;
    std::int64_t version = -1;
  };
  void upload();

  comm::StreamView stream_;
  std::vector<Group> groups_;
  std::map<std::set<int>, int> group_of_;
  comm::Buffer rows_, row_of_piece_;
  bool uploaded_ = false;
};

}  // namespace models
