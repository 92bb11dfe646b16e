#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/eval/metrics.h"

namespace trainer {

struct NamedValue {
  std::string name;
  double value;  // NaN: undefined, null in JSON
};

// Wall-clock seconds of one step. `compute` is forward and backward; `communication` only the part
// not hidden behind compute. `total` is from the end of the step before to the end of this one.
struct StepSeconds {
  double data = 0;
  double compute = 0;
  double communication = 0;
  double update = 0;
  double total = 0;
};

// One training step, of the global batch: a training line of metrics.jsonl.
struct StepReport {
  std::int64_t step = 0;
  bool logged = true;                  // the first, the last, and every log.every_steps-th
  std::vector<std::int64_t> left_out;  // samples that on_error: skip left out for the first time
  double epoch = 0;                    // fraction included
  std::int64_t images = 0;             // seen since the run began
  double loss = kUndefined;            // of this step, not smoothed
  std::vector<NamedValue> losses;      // its parts, keys of the line: loss_classification, ...
  double lr = 0;
  double l2_penalty = 0;
  double grad_norm = kUndefined;
  StepSeconds seconds;
  std::int64_t memory_bytes = 0;          // peak of the process or device
  std::vector<NamedValue> extra;          // further keys, behind the fixed ones
  double images_per_second = kUndefined;  // filled in by StepMeter::observe
  double eta_seconds = kUndefined;        // filled in by StepMeter::observe
};

}  // namespace trainer
