#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/error.h"

namespace comm {

// One message of an exchange: `data` is sent to, or received from, `peer`. Between a pair of ranks
// the k-th message sent matches the k-th one received, so both sides list them in the same order.
struct Message {
  int peer;
  std::span<float> data;
};

// Handle of communication in flight. ASYNC: the spans given to the call that made it must stay
// alive and untouched until `wait` returns or `test` is true. Destruction without wait is a bug.
// On memory of a device (device_communicator.h) all of this is in the order of the compute stream:
// a bulk verb starts after the work launched on it before the call, and what is launched after
// `wait`, or after `test` was true, runs after the verb. Nobody synchronizes the stream for that,
// and the host may not read the result before it has.
class Request {
 public:
  virtual ~Request() = default;
  virtual bool test() = 0;  // drives progress; true when done
  virtual void wait() = 0;
};

enum class Reduction { kSum, kMax, kMin };

// The ranks of one run, or of one trial of a search. Collectives must be called by every rank in
// the same order. Small host-side verbs block; bulk verbs on float spans are asynchronous. The
// spans lie in host memory, but for the bulk verbs of a device_communicator.
// Errors: kPeerLost when a peer is gone or late.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string host(int rank) const = 0;  // host name of a rank

  virtual void barrier() = 0;
  virtual void broadcast(std::span<std::byte> bytes, int root) = 0;
  // In rank order on every rank, so that fp64 sums are the same bits everywhere.
  virtual void all_reduce(std::span<double> values, Reduction) = 0;
  virtual void all_reduce(std::span<std::int64_t> values, Reduction) = 0;
  // Every rank's bytes, in rank order, on every rank.
  virtual std::vector<std::string> all_gather(const std::string& bytes) = 0;

  // Point-to-point moves of one bucket, no arithmetic: the transport of `reduction: exact`.
  // `tag` separates buckets in flight at the same time; equal on all ranks.
  virtual std::unique_ptr<Request> exchange(std::span<const Message> sends,
                                            std::span<const Message> receives, int tag) = 0;
  // The library chooses the order: the transport of `reduction: fast`. `whole` holds size() equal
  // shards; afterwards this rank's shard holds the sum.
  virtual std::unique_ptr<Request> reduce_scatter(std::span<float> whole) = 0;
  // `whole` holds size() equal shards, this rank's filled; afterwards all are.
  virtual std::unique_ptr<Request> all_gather(std::span<float> whole) = 0;

  // Ranks with the same color form a new communicator, ordered by their rank here.
  virtual std::unique_ptr<Communicator> split(int color) = 0;

  // Ends every rank of the job with `code`. Never returns.
  [[noreturn]] virtual void abort(ExitCode code) = 0;
};

// The ranks the launcher started (MPI_COMM_WORLD). REQUIRES: called once, from main; the object
// outlives all communication; its destruction finalizes MPI.
// Errors: kUsage when the launcher says size > 1 and MPI says 1.
std::unique_ptr<Communicator> launch_communicator(int* argc, char*** argv);

// `size` ranks as threads of this process (tests; size 1 is an ordinary run without a launcher).
std::vector<std::unique_ptr<Communicator>> local_communicators(int size);

}  // namespace comm
