#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/comm/communicator_contract.h"

namespace comm::contract {
namespace {

float element(int from, int to, std::size_t i) {
  return static_cast<float>(from * 1000 + to * 100) + static_cast<float>(i % 97) / 128;
}

std::vector<float> message(int from, int to, std::size_t count) {
  std::vector<float> data(count);
  for (std::size_t i = 0; i < count; ++i) data[i] = element(from, to, i);
  return data;
}

}  // namespace

void broadcast_reaches_all(Communicator& communicator) {
  for (int root = 0; root < communicator.size(); ++root) {
    std::vector<std::byte> bytes(5003);
    if (communicator.rank() == root)
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte((i * 7 + root) & 0xff);
    communicator.broadcast(bytes, root);
    for (std::size_t i = 0; i < bytes.size(); ++i)
      ASSERT_EQ(bytes[i], std::byte((i * 7 + root) & 0xff)) << i;
  }
  communicator.broadcast({}, 0);
}

// Values whose sum depends on the order: only ((v0 + v1) + v2) + ... gives these bits.
void sums_are_in_rank_order(Communicator& communicator) {
  const auto value = [](int rank, std::size_t i) {
    return std::sin(rank * 1e3 + static_cast<double>(i)) * std::pow(10.0, (rank * 5) % 17);
  };
  std::vector<double> values(2500);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = value(communicator.rank(), i);
  communicator.all_reduce(values, Reduction::kSum);
  for (std::size_t i = 0; i < values.size(); ++i) {
    double expected = value(0, i);
    for (int rank = 1; rank < communicator.size(); ++rank) expected += value(rank, i);
    ASSERT_EQ(values[i], expected) << i;
  }
  communicator.all_reduce(std::span<double>{}, Reduction::kSum);
}

void max_and_min(Communicator& communicator) {
  std::vector<double> values = {-1.5 * communicator.rank(), 2.0 * communicator.rank()};
  std::vector<double> smallest = values;
  communicator.all_reduce(values, Reduction::kMax);
  communicator.all_reduce(smallest, Reduction::kMin);
  const double last = communicator.size() - 1;
  EXPECT_EQ(values, (std::vector<double>{0, 2 * last}));
  EXPECT_EQ(smallest, (std::vector<double>{-1.5 * last, 0}));
}

void integers_are_exact(Communicator& communicator) {
  const std::int64_t large = (std::int64_t{1} << 53) + 1;  // no double holds it
  std::vector<std::int64_t> values = {large, communicator.rank()};
  communicator.all_reduce(values, Reduction::kSum);
  const std::int64_t n = communicator.size();
  EXPECT_EQ(values, (std::vector<std::int64_t>{large * n, n * (n - 1) / 2}));
}

void gathers_strings_of_any_length(Communicator& communicator) {
  const auto text = [](int rank) {
    return std::string(static_cast<std::size_t>(rank) * 1300, static_cast<char>('a' + rank)) +
           std::string(1, '\0');
  };
  const auto all = communicator.all_gather(text(communicator.rank()));
  ASSERT_EQ(static_cast<int>(all.size()), communicator.size());
  for (int rank = 0; rank < communicator.size(); ++rank)
    EXPECT_EQ(all[static_cast<std::size_t>(rank)], text(rank));
  EXPECT_FALSE(communicator.host(communicator.size() - 1).empty());
}

void exchange_moves_every_message(Communicator& communicator) {
  const int own = communicator.rank();
  const auto count = [](int from, int to) {
    return static_cast<std::size_t>(5000 * from + 17 * to + 1);  // small and beyond eager limits
  };
  std::vector<std::vector<float>> sent, received;
  for (int peer = 0; peer < communicator.size(); ++peer) {
    sent.push_back(message(own, peer, count(own, peer)));
    received.emplace_back(count(peer, own));
  }
  std::vector<Message> sends, receives;
  for (int peer = 0; peer < communicator.size(); ++peer) {
    if (peer == own) continue;
    sends.push_back({peer, sent[static_cast<std::size_t>(peer)]});
    receives.push_back({peer, received[static_cast<std::size_t>(peer)]});
  }
  communicator.exchange(sends, receives, 3)->wait();
  for (int peer = 0; peer < communicator.size(); ++peer)
    if (peer != own) {
      EXPECT_EQ(received[static_cast<std::size_t>(peer)], message(peer, own, count(peer, own)));
    }
  communicator.exchange({}, {}, 0)->wait();
}

// Two tags under way, started in different orders by even and odd ranks, two messages each.
void exchange_matches_by_order_and_tag(Communicator& communicator) {
  if (communicator.size() == 1) return;
  const int n = communicator.size(), own = communicator.rank();
  const int next = (own + 1) % n, former = (own + n - 1) % n;
  std::vector<std::vector<float>> received(4, std::vector<float>(300));
  std::vector<std::vector<float>> sent;
  for (int k = 0; k < 4; ++k)
    sent.push_back(std::vector<float>(300, static_cast<float>(own * 10 + k)));
  std::unique_ptr<Request> requests[2];
  for (int turn = 0; turn < 2; ++turn) {
    const int tag = (turn + own) % 2;
    const std::size_t k = static_cast<std::size_t>(2 * tag);
    const Message sends[] = {{next, sent[k]}, {next, sent[k + 1]}};
    const Message receives[] = {{former, received[k]}, {former, received[k + 1]}};
    requests[tag] = communicator.exchange(sends, receives, tag);
  }
  requests[1]->wait();
  while (!requests[0]->test()) {
  }
  EXPECT_TRUE(requests[0]->test());  // stays done
  for (int k = 0; k < 4; ++k)
    EXPECT_EQ(received[static_cast<std::size_t>(k)],
              std::vector<float>(300, static_cast<float>(former * 10 + k)));
}

void exchange_with_itself(Communicator& communicator) {
  std::vector<float> from = message(communicator.rank(), 0, 70000), to(from.size());
  const Message send{communicator.rank(), from}, receive{communicator.rank(), to};
  communicator.exchange({&send, 1}, {&receive, 1}, 9)->wait();
  EXPECT_EQ(from, to);
}

void reduce_scatter_leaves_the_own_shard(Communicator& communicator) {
  const std::size_t shard = 1234;
  const auto ranks = static_cast<std::size_t>(communicator.size());
  std::vector<float> whole(shard * ranks);
  for (std::size_t i = 0; i < whole.size(); ++i)  // whole numbers: exact in any order
    whole[i] = static_cast<float>(i + static_cast<std::size_t>(communicator.rank()));
  communicator.reduce_scatter(whole)->wait();
  const std::size_t begin = shard * static_cast<std::size_t>(communicator.rank());
  for (std::size_t i = begin; i < begin + shard; ++i)
    ASSERT_EQ(whole[i], static_cast<float>(i * ranks + ranks * (ranks - 1) / 2)) << i;
}

void all_gather_fills_all_shards(Communicator& communicator) {
  const std::size_t shard = 777;
  std::vector<float> whole(shard * static_cast<std::size_t>(communicator.size()), -1);
  const std::size_t begin = shard * static_cast<std::size_t>(communicator.rank());
  for (std::size_t i = begin; i < begin + shard; ++i) whole[i] = static_cast<float>(i);
  communicator.all_gather(whole)->wait();
  for (std::size_t i = 0; i < whole.size(); ++i) ASSERT_EQ(whole[i], static_cast<float>(i));
}

void bulk_verbs_overlap(Communicator& communicator) {
  const auto ranks = static_cast<std::size_t>(communicator.size());
  const auto own = static_cast<std::size_t>(communicator.rank());
  std::vector<std::vector<float>> wholes(6, std::vector<float>(ranks * 500));
  std::vector<std::unique_ptr<Request>> requests;
  for (std::size_t k = 0; k < wholes.size(); ++k) {
    std::ranges::fill(std::span(wholes[k]).subspan(own * 500, 500),
                      static_cast<float>(k * 10 + own));
    requests.push_back(communicator.all_gather(wholes[k]));
  }
  communicator.barrier();  // a small verb between start and end
  std::ranges::reverse(requests);
  for (auto& request : requests) request->wait();
  for (std::size_t k = 0; k < wholes.size(); ++k)
    for (std::size_t i = 0; i < wholes[k].size(); ++i)
      ASSERT_EQ(wholes[k][i], static_cast<float>(k * 10 + i / 500));
}

void split_keeps_order_and_is_separate(Communicator& communicator) {
  const int color = communicator.rank() % 2;
  const auto part = communicator.split(color);
  EXPECT_EQ(part->size(), (communicator.size() + 1 - color) / 2);
  EXPECT_EQ(part->rank(), communicator.rank() / 2);
  std::vector<std::int64_t> sum = {communicator.rank()};
  part->all_reduce(sum, Reduction::kSum);
  const std::int64_t n = part->size();
  EXPECT_EQ(sum[0], n * (n - 1) + color * n);
  const auto alone = part->split(part->rank());
  EXPECT_EQ(alone->size(), 1);
  alone->barrier();
  // A message in the part and one in the whole, same peer and tag, do not meet.
  if (communicator.size() < 3 || part->size() < 2) return;
  const int peer = part->rank() ^ 1;
  if (peer >= part->size()) return;
  std::vector<float> a(10, 1), b(10, 2), got_a(10), got_b(10);
  const Message send_a{peer, a}, receive_a{peer, got_a};
  const Message send_b{peer * 2 + color, b}, receive_b{peer * 2 + color, got_b};
  auto in_whole = communicator.exchange({&send_b, 1}, {&receive_b, 1}, 0);
  part->exchange({&send_a, 1}, {&receive_a, 1}, 0)->wait();
  in_whole->wait();
  EXPECT_EQ(got_a, a);
  EXPECT_EQ(got_b, b);
}

void wrong_arguments_are_refused(Communicator& communicator) {
  std::vector<float> uneven(static_cast<std::size_t>(communicator.size()) * 3 + 1);
  EXPECT_THROW(communicator.exchange({}, {}, -1), Error);
  if (communicator.size() == 1) return;
  EXPECT_THROW(communicator.all_gather(uneven), Error);
  EXPECT_THROW(communicator.reduce_scatter(uneven), Error);
}

}  // namespace comm::contract
