#pragma once

#include <string>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "trainer/config/config.h"

namespace trainer {

// Speed of the input pipeline alone.
struct InputSpeed {
  std::string name;
  int batch = 0, ranks = 1, threads = 1;  // threads that decode, a rank
  int steps = 0;
  // Read, decode, resize, flip, normalise; 0 where the run's device is a GPU.
  double images_per_second = 0;       // of all ranks
  double images_per_core_second = 0;  // images over seconds of processor time
  // What a GPU leaves to the host: read, decode and pack, photometric changes included.
  double packed_images_per_second = 0;
  double packed_images_per_core_second = 0;
};

// Reads the training split as `steps` steps of training would, after one that does not count; no
// model is built, no GPU is asked for work. On a CPU once for it and once as for a GPU. Collective.
// Errors: those of opening and reading the data (65, 66, 78).
InputSpeed run_input_bench(const Config& config, int steps, comm::Communicator& communicator,
                           comm::Progress& progress);

std::string input_text(const InputSpeed& speed);
std::string input_json(const InputSpeed& speed);

}  // namespace trainer
