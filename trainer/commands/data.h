#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/error.h"
#include "trainer/config/config.h"
#include "trainer/data/batch.h"

namespace trainer {

struct DataCommand {
  bool check = false;
  bool json = false;
  int threads = 1;
};

struct DataOutput {
  std::string text;                 // for stdout
  std::optional<comm::Error> stop;  // to be thrown after printing: what `train` would stop with
};

// `ridgeline data CONFIG [--check] [--json]`.
DataOutput run_data(const Config& config, const DataCommand& command);

// The first `count` training batches (micro-batches of one rank that holds them all) as the network
// sees them, for pictures; with them the names of the classes by index.
struct PictureBatches {
  std::vector<Batch> batches;
  std::vector<std::string> class_names;
};
PictureBatches picture_batches(const Config& config, int count);

// The fields that a model reads.
Fields fields_of(ModelName model);

}  // namespace trainer
