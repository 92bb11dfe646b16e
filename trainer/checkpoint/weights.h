#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "comm/communicator.h"
#include "trainer/checkpoint/snapshot.h"

namespace trainer {

// Tensors of an HDF5 file that somebody else wrote: one dataset a tensor at the root, IEEE floats
// of 16, 32 or 64 bits (given as float) or integers (given as int64). The file is parsed by a child
// process without the right to open anything, so a crafted file can at worst end the child.
// Refused: groups, links, external or virtual storage, references, strings, compounds, filters
// other than deflate, shuffle and Fletcher32, more than kMaxTensors tensors, ranks above
// kMaxDimensions, sizes beyond kMaxTensorBytes or beyond what the file can hold.
// Errors: kInputMissing, kData; the message names file and tensor.
TensorMap read_weights(const std::filesystem::path& file);

inline constexpr std::size_t kMaxTensors = 65536;
inline constexpr int kMaxDimensions = 8;
inline constexpr std::size_t kMaxTensorBytes = std::size_t{4} << 30;

// What `--checkpoint PATH` and `--init PATH` accept.
struct Weights {
  TensorMap tensors;
  std::string source;                  // for the log: the file that was read
  std::optional<CheckpointMeta> meta;  // of a checkpoint
};

// Collective. `path`: checkpoint folder, run folder, link to either, or HDF5 weight file.
// `ema`: the averaged weights; kCheckpointRefused where a checkpoint has none; a weight file is
// taken as it is. Errors: those of open_checkpoint and read_weights.
Weights open_weights(const std::filesystem::path& path, bool ema, comm::Communicator& comm,
                     const Notify& notify);

}  // namespace trainer
