#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <future>
#include <vector>

namespace trainer {

// Calls job(i) for i < n on up to num_threads threads, in no fixed order; rethrows what a job
// threw. REQUIRES: jobs write to places of their own.
template <typename Job>
void run_jobs(std::size_t n, int num_threads, Job job) {
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < n; i = next++) job(i);
  };
  std::vector<std::future<void>> others;
  for (std::size_t t = 1; t < std::min(n, static_cast<std::size_t>(std::max(num_threads, 1)));
       ++t) {
    others.push_back(std::async(std::launch::async, work));
  }
  work();
  for (std::future<void>& other : others) other.get();
}

}  // namespace trainer
