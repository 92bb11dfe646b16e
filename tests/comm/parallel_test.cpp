#include "comm/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <map>
#include <mutex>
#include <thread>

#include "comm/bf16.h"

namespace comm {
namespace {

constexpr std::int64_t kSizes[] = {0, 1, 31, 32, 33, 1023, 1024, 1025, 4096, 100'003};

double term(std::int64_t i) { return std::sin(static_cast<double>(i)) * std::pow(10.0, i % 13); }

// The definition, written plainly: 1024 elements, 32 lanes, a binary tree of the lanes.
double reference_tree(const std::vector<double>& values) {
  std::vector<double> lanes(32, 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) lanes[i % 32] += values[i];
  while (lanes.size() > 1) {
    const std::size_t half = lanes.size() / 2;
    for (std::size_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    lanes.resize(half);
  }
  return lanes[0];
}

double reference_sum(std::int64_t n) {
  std::vector<double> sums;
  for (std::int64_t begin = 0; begin < n; begin += 1024) {
    std::vector<double> block;
    for (std::int64_t i = begin; i < std::min(n, begin + 1024); ++i) block.push_back(term(i));
    sums.push_back(reference_tree(block));
  }
  return reference_tree(sums);
}

class Parallel : public testing::TestWithParam<int> {
 protected:
  Stream stream_{Device{}, GetParam()};
};

TEST_P(Parallel, ForVisitsEveryIndexOnce) {
  for (const std::int64_t n : kSizes) {
    std::vector<int> visits(static_cast<std::size_t>(n));
    parallel_for(stream_, n, [v = visits.data()](std::int64_t i) { ++v[i]; });
    EXPECT_EQ(visits, std::vector<int>(visits.size(), 1)) << n;
  }
}

TEST_P(Parallel, BlocksDoNotDependOnTheThreads) {
  for (const std::int64_t n : kSizes) {
    std::mutex mutex;
    std::map<std::int64_t, std::int64_t> ranges;
    parallel_for_blocks(stream_, n, 1000, [&](std::int64_t begin, std::int64_t end) {
      const std::lock_guard lock(mutex);
      ranges[begin] = end;
    });
    ASSERT_EQ(static_cast<std::int64_t>(ranges.size()), num_blocks(n, 1000));
    for (const auto& [begin, end] : ranges) {
      EXPECT_EQ(begin % 1000, 0);
      EXPECT_EQ(end, std::min(n, begin + 1000));
    }
  }
}

TEST_P(Parallel, ReduceIsTheDocumentedTree) {
  for (const std::int64_t n : kSizes)
    EXPECT_EQ(parallel_reduce(stream_, n, term), reference_sum(n)) << n;
}

TEST_P(Parallel, ReduceWritesWhereAsked) {
  const std::int64_t n = 5000;
  std::vector<double> scratch(static_cast<std::size_t>(num_reduce_blocks(n)), -1), out(1);
  std::vector<int> visits(n);
  parallel_reduce(
      stream_, n,
      [v = visits.data()](std::int64_t i) {
        ++v[i];
        return 1.0;
      },
      scratch, out);
  EXPECT_EQ(out[0], 5000);
  EXPECT_EQ(scratch, (std::vector<double>{1024, 1024, 1024, 1024, 904}));
  EXPECT_EQ(visits, std::vector<int>(n, 1));
}

TEST_P(Parallel, BlockSumsOfAPartAreThoseOfTheWhole) {  // what shards of an optimizer rely on
  std::vector<double> whole(10), part(4);
  parallel_block_sums(stream_, 10 * kReduceBlock, term, whole);
  parallel_block_sums(
      stream_, 4 * kReduceBlock, [](std::int64_t i) { return term(i + 3 * kReduceBlock); }, part);
  EXPECT_EQ(part, std::vector<double>(whole.begin() + 3, whole.begin() + 7));
}

template <typename T>
struct Twice {
  const T* from;
  T* to;
  template <int N>
  void operator()(std::int64_t i, Lanes<N> lanes) const {
    const Pack<T, N> x = load(from + i, lanes);
    Pack<float, N> y;
    each(lanes, [&](int k) { y[k] = 2.0f * x[k]; });
    store(to + i, y);
  }
};

// In vectors and one by one, wherever they begin, and with a rest.
template <typename T>
void expect_twice(StreamView stream, std::int64_t n) {
  std::vector<T> from(static_cast<std::size_t>(n)), to(from.size(), T(-1.0f));
  for (std::int64_t i = 0; i < n; ++i) from[i] = static_cast<float>(i % 100);
  const auto check = [&](const char* what) {
    for (std::int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(float{to[i]}, 2.0f * static_cast<float>(i % 100))
          << what << " " << i << " of " << n;
    }
    to.assign(to.size(), T(-1.0f));
  };
  const Twice<T> body{from.data(), to.data()};
  parallel_for_vectors<kVectorLanes<T>>(stream, n, 1000, body, {from.data(), to.data()});
  check("host");
  constexpr int N = kVectorLanes<T>;
  parallel_for(stream, num_blocks(n, N), RunOfLanes<N, Twice<T>>{body, n});
  check("vectors");
  parallel_for(stream, n, RunOfLanes<1, Twice<T>>{body, n});
  check("one by one");
}

TEST_P(Parallel, VectorsVisitEveryElementOnce) {
  for (const std::int64_t n : kSizes) {
    expect_twice<float>(stream_, n);
    expect_twice<Bf16>(stream_, n);
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, Parallel, testing::Values(1, 2, 3, 8));

TEST(ParallelContract, RefusesTooFewSums) {
  const Stream stream{Device{}};
  std::vector<double> sums(1);
  EXPECT_THROW(parallel_block_sums(stream, 1025, term, sums), Error);
  EXPECT_THROW(parallel_reduce(stream, 10, term, sums, {}), Error);
  EXPECT_THROW(parallel_for_blocks(stream, 10, 0, [](std::int64_t, std::int64_t) {}), Error);
}

TEST(ParallelContract, VectorsBeginAtTheirAlignment) {
  alignas(16) const float x[8] = {};
  EXPECT_TRUE(vectors_fit({x, x + 4, nullptr}));
  EXPECT_FALSE(vectors_fit({x, x + 1}));
}

TEST(ParallelContract, LanesOfAPackAreElements) {
  Pack<Bf16, 8> pack = {};
  for (int k = 0; k < 8; ++k) pack[k] = 1.5f * static_cast<float>(k);
  pack[3] = -2.0f;  // leaves its neighbour as it is
  alignas(16) Bf16 memory[8];
  store(memory, pack);
  for (int k = 0; k < 8; ++k) {
    const float expected = k == 3 ? -2.0f : 1.5f * static_cast<float>(k);
    EXPECT_EQ(float{memory[k]}, expected);
    EXPECT_EQ(float{load(memory, Lanes<8>{})[k]}, expected);
  }
}

TEST(ParallelContract, UsesAllThreadsForHeavyBodies) {
  std::mutex mutex;
  std::map<std::thread::id, int> seen;
  parallel_for(
      Stream(Device{}, 4), 4,
      [&](std::int64_t) {
        const std::lock_guard lock(mutex);
        ++seen[std::this_thread::get_id()];
      },
      1);
  EXPECT_EQ(seen.size(), 4u);
}

}  // namespace
}  // namespace comm
