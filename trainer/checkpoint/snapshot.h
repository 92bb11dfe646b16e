#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace trainer {

// One line for the log: fallbacks, failed saves, differences that do not refuse a resume.
using Notify = std::function<void(const std::string&)>;

enum class ElementType { kFloat32, kInt64 };

std::size_t element_bytes(ElementType type);

// A whole tensor to be saved; shape {} is a scalar. Invariant: bytes.size() is the product of the
// shape times the element size.
struct NamedArray {
  std::string name;
  std::vector<std::int64_t> shape;
  ElementType type = ElementType::kFloat32;
  std::span<const std::byte> bytes;
  // What is saved where that is not `bytes` as they lie: writes as many elements.
  std::function<void(std::span<float>)> write = nullptr;
};

// A whole tensor as read from a file.
struct Array {
  std::vector<std::int64_t> shape;
  ElementType type = ElementType::kFloat32;
  std::vector<std::byte> bytes;

  std::span<const float> floats() const;           // REQUIRES: type == kFloat32
  std::span<const std::int64_t> integers() const;  // REQUIRES: type == kInt64
};
using TensorMap = std::map<std::string, Array>;

// Elements [begin, end) of a flattened tensor of the optimizer's state ("momentum", "variance"),
// flattened plainly (tile 1) or in tiles of the optimizer's choice (FORMAT.md).
struct StatePiece {
  std::string state;
  std::string tensor;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::span<const float> values;  // end - begin
  int tile = 1;
};

// What a setting means for a resume: identity must match, schedule may change (it is logged),
// runtime is free (a change may cost bitwise equality and is logged).
enum class ConfigClass { kIdentity, kSchedule, kRuntime };

struct ConfigEntry {
  std::string key;
  std::string value;
  ConfigClass kind = ConfigClass::kIdentity;
  bool is_default = false;  // of a running program: what the key has where nothing sets it
};

// Everything beside arrays that a run needs to go on. There is no generator state: random numbers
// are a function of (seed, epoch, sample).
struct CheckpointMeta {
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  int world_size = 1;                           // set by CheckpointStore
  bool best = false;                            // best so far; `checkpoints/best` will point to it
  std::vector<ConfigEntry> config;              // compared on resume (identity.h)
  std::map<std::string, std::string> versions;  // libraries, build
  std::map<std::string, std::string> notes;  // data fingerprint, kernel choices, best metric, ...
};

// The state of a run at a step boundary, as views of the caller's memory.
struct Snapshot {
  bool kept = false;  // the memory stays as it is until the save has finished: no copy is needed
  CheckpointMeta meta;                // equal on all ranks
  std::vector<NamedArray> model;      // rank 0 gives every tensor; ignored elsewhere
  std::vector<NamedArray> ema;        // rank 0; empty: no model-ema.h5
  std::vector<StatePiece> optimizer;  // each rank gives what it owns
};

}  // namespace trainer
