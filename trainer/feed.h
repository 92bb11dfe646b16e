#pragma once

#include <optional>
#include <vector>

#include "comm/buffer.h"
#include "comm/communicator.h"
#include "comm/stream.h"
#include "models/graph/executable.h"
#include "trainer/config/config.h"
#include "trainer/data/loader.h"

namespace trainer {

// The fields of a batch that a model reads.
Fields fields_of(ModelName model);

// What a rank's loader of training data is told; `threads` decode.
LoaderOptions training_input(const Config& config, const comm::Communicator& communicator,
                             comm::Device device, int threads);

// Brings batches from a loader into the inputs of executables, in the order of a stream. On a GPU
// the host goes on while they are copied, packed images on a stream of their own beside the work of
// the step before; one kernel makes them the input.
class Feeder {
 public:
  // REQUIRES: the loader's batches are for the stream's device; the loader outlives this.
  Feeder(Loader& loader, comm::StreamView stream);

  // Loader::next, once the memory that it gives back to the loader has been read.
  Batch* next();
  // Copies the fields that the graph declares. REQUIRES: of the newest batch; equal shapes.
  void feed(const models::Executable& executable, Batch& batch);

 private:
  // Packed images on their way to the input.
  struct Packed {
    Packed(comm::Device device, std::size_t size_bytes)
        : images(device, size_bytes), copies(device), copied(device), placed(device) {}
    comm::Buffer images;  // those of one batch
    comm::Stream copies;
    comm::Event copied, placed;
  };
  template <typename T>
  void copy_field(const models::Tensor& input, std::span<const T> field) const;
  void feed_images(const models::Tensor& input, Batch& batch);

  Loader& loader_;
  comm::StreamView stream_;
  std::optional<Packed> packed_;     // where the loader packs
  std::vector<comm::Event> copied_;  // of the batches that this holds, a ring
  std::size_t count_ = 0;            // batches so far
};

}  // namespace trainer
