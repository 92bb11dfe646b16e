#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "trainer/checkpoint/snapshot.h"

namespace trainer {

struct Manifest;

// Elements [begin, end) of a tensor's optimizer state to be read into `out`.
struct StateRange {
  std::string state;
  std::string tensor;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::span<float> out;  // end - begin
};

// A committed checkpoint whose manifest has been verified. Each file is read whole and compared
// with its digest before HDF5 sees a byte of it. Errors of all readers: kCheckpointRefused, naming
// the file and what differs.
class Checkpoint {
 public:
  Checkpoint(std::filesystem::path folder, Manifest manifest);
  ~Checkpoint();
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;

  const std::filesystem::path& folder() const { return folder_; }
  const CheckpointMeta& meta() const;

  TensorMap model() const;
  bool has_ema() const;
  TensorMap ema() const;

  std::vector<std::string> states() const;  // names of optimizer state, sorted
  // How a tensor's state is flattened (StatePiece::tile).
  int tile(const std::string& state, const std::string& tensor) const;
  // Fills every range from whatever shards hold it: any number of ranks can read what any other
  // number wrote. Reads each shard at most once. Errors also when a range is not covered.
  void read_state(std::span<const StateRange> ranges) const;
  void read_range(const std::string& state, const std::string& tensor, std::int64_t begin,
                  std::int64_t end, std::span<float> out) const;

 private:
  std::filesystem::path folder_;
  std::unique_ptr<Manifest> manifest_;
};

// Checkpoint folders of a run in commit order, oldest first; only the names are looked at, and
// those whose manifest cannot be read come first. A run without any gives an empty list.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& run_folder);

// Collective. The newest checkpoint of the run whose files all match their digests; the ranks share
// the reading, rank 0 decides, and every rank compares its own view of the manifest. Each one
// passed over is reported. Empty: the run has none. Errors: kCheckpointRefused when it has some and
// none is valid; kIo when a rank does not see what rank 0 sees.
std::optional<Checkpoint> newest_valid(const std::filesystem::path& run_folder,
                                       comm::Communicator& comm, const Notify& notify);

// Collective. `path`: a checkpoint folder (or a link to one, such as checkpoints/best), which must
// be valid, or a run folder (its newest valid one). Errors: kInputMissing, kCheckpointRefused.
Checkpoint open_checkpoint(const std::filesystem::path& path, comm::Communicator& comm,
                           const Notify& notify);

}  // namespace trainer
