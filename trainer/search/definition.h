#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/device.h"
#include "trainer/config/load.h"
#include "trainer/search/candidates.h"

namespace trainer {

// What decides a run's bits beside its configuration and data.
struct Arithmetic {
  comm::DeviceKind device = comm::DeviceKind::kCpu;
  bool bf16 = false;
  int threads = 1;
};

struct DataFingerprints {
  std::uint64_t train = 0;
  std::uint64_t val = 0;  // 0: folds of train
};

// DIR/definition.txt: what a search is, a line each, so that a folder is continued only by the same
// search. Keys that runs may change on resume (runtime, paths) and the searched ones are left out;
// the data stand by their fingerprints, the metric by metric_identity. Last lines: device and
// precision, so that one table does not mix fp32 of a CPU with bf16 of a GPU, and the threads a
// rank trains with, which decide bits and are kept from the first start on.
std::string definition_text(const SearchDefinition& definition, const Config& config,
                            const DataFingerprints& data, const Arithmetic& arithmetic);

// Of such a text; 0 when it names none.
int threads_of_definition(const std::string& text);

// Errors: kCheckpointRefused with the first line that differs, threads apart. `folder` for the
// message.
void require_same_definition(const std::string& saved, const std::string& current,
                             const std::string& folder);

}  // namespace trainer
