#include "trainer/lock_step.h"

#include <cstring>

#include "models/ops/sync_norm.h"

namespace trainer {

LockStep::LockStep(comm::Communicator& communicator, std::int64_t num_micro_batches)
    : communicator_(communicator.split(0)),
      num_micro_batches_(num_micro_batches),
      range_(micro_batches_of(num_micro_batches, communicator.rank(), communicator.size())) {
  for (int r = 0; r < communicator.size(); ++r) {
    nodes_of_rank_.push_back(subtrees_of(
        num_micro_batches, micro_batches_of(num_micro_batches, r, communicator.size())));
  }
}

bool LockStep::any_failed(bool mine) {
  std::int64_t failed = mine;
  communicator_->all_reduce(std::span<std::int64_t>(&failed, 1), comm::Reduction::kMax);
  return failed != 0;
}

// Records are (count, mean, squared deviations) by channel, or a gradient of moments.
void LockStep::add(Record& to, const Record& from, bool gradient) const {
  if (gradient) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
    return;
  }
  const std::size_t c = to.size() / 3;
  for (std::size_t i = 0; i < c; ++i) {
    const models::Moments merged =
        models::merge({to[i], to[c + i], to[2 * c + i]}, {from[i], from[c + i], from[2 * c + i]});
    to[i] = merged.count;
    to[c + i] = merged.mean;
    to[2 * c + i] = merged.squares;
  }
}

// The nodes of the tree that this rank can finish alone.
std::vector<LockStep::Record> LockStep::local_nodes(
    comm::StreamView stream, std::span<const models::SyncPoint> points) const {
  TreeStack stack(num_micro_batches_);
  std::vector<Record> nodes;
  std::vector<float> values;
  for (std::size_t m = 0; m < points.size(); ++m) {
    const models::SyncPoint& point = points[m];
    values.resize(static_cast<std::size_t>(point.value.shape.count()));
    comm::copy_bytes(stream, std::as_writable_bytes(std::span(values)),
                     {point.value.data, values.size() * sizeof(float)});
    stream.synchronize();
    Record& node = nodes.emplace_back(values.begin(), values.end());
    const std::size_t c = node.size() / 3;
    for (std::size_t i = 0; i < c && !point.gradient; ++i) node[2 * c + i] *= node[i];
    stack.push({0, range_.begin + static_cast<std::int64_t>(m)},
               [&](std::size_t left, std::size_t right) {
                 add(nodes[left], nodes[right], point.gradient);
                 nodes.pop_back();
               });
  }
  return nodes;
}

void LockStep::merge(comm::StreamView stream, std::span<const models::SyncPoint> points) {
  REQUIRE(std::ssize(points) == range_.count(), "{} values of {} micro-batches", points.size(),
          range_.count());
  if (num_micro_batches_ == 1) return;
  const bool gradient = points[0].gradient;
  const auto size = static_cast<std::size_t>(points[0].value.shape.count());
  std::string mine;
  for (const Record& node : local_nodes(stream, points)) {
    mine.append(reinterpret_cast<const char*>(node.data()), size * sizeof(double));
  }
  const std::vector<std::string> all = communicator_->all_gather(mine);
  TreeStack stack(num_micro_batches_);
  std::vector<Record> nodes;
  for (std::size_t r = 0; r < all.size(); ++r) {
    REQUIRE(all[r].size() == nodes_of_rank_[r].size() * size * sizeof(double),
            "rank {} sent {} bytes for {} values", r, all[r].size(), size);
    for (std::size_t n = 0; n < nodes_of_rank_[r].size(); ++n) {
      Record& node = nodes.emplace_back(size);
      std::memcpy(node.data(), all[r].data() + n * size * sizeof(double), size * sizeof(double));
      stack.push(nodes_of_rank_[r][n], [&](std::size_t left, std::size_t right) {
        add(nodes[left], nodes[right], gradient);
        nodes.pop_back();
      });
    }
  }
  REQUIRE(nodes.size() == 1, "the tree has {} roots", nodes.size());
  const std::size_t c = size / 3;
  for (std::size_t i = 0; i < c && !gradient; ++i) nodes[0][2 * c + i] /= nodes[0][i];
  const std::vector<float> merged(nodes[0].begin(), nodes[0].end());
  for (const models::SyncPoint& point : points) {
    comm::copy_bytes(stream, {point.value.data, size * sizeof(float)},
                     std::as_bytes(std::span(merged)));
  }
  stream.synchronize();
}

}  // namespace trainer
