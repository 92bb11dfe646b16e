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

}  // namespace trainer
