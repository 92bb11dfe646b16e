#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "models/graph/executable.h"
#include "models/graph/weight_tiles.h"
#include "models/model.h"
#include "trainer/config/config.h"
#include "trainer/data/dataset.h"

namespace trainer {

// The model of a configuration. `num_classes` counts the background where the model has one.
std::unique_ptr<models::Model> configured_model(const Config& config, int num_classes);

// The classes of the model, background included where it has one: those of the configuration, else
// of the data. Errors: kConfig when they are fewer than the data's.
int num_classes_for(const Config& config, const Dataset& dataset);

// One micro-batch of a shape bucket, of data.size (training) or evaluation_sizes (inference).
models::BatchShape micro_batch_shape(const Config& config, const InputSize& size, int channels);

// eval.size, by default data.size.
const std::vector<InputSize>& evaluation_sizes(const Config& config);

// Training or inference plan of a model for one shape bucket.
models::Plan make_plan(const models::Model& model, const models::BatchShape& shape,
                       const models::PlanOptions& options);

struct NetworkOptions {
  int ranks = 1;
  bool training = true;
  // PlanOptions::tile; several ranks that train: common_tile.
  int tile = models::native_tile();
};

// What the CPUs of all ranks can work with. Collective.
int common_tile(comm::Communicator& communicator);

// Everything that computes in a run: one model, its parameters, and its plans bound to the device,
// one for training for each data.size and one for inference for each eval.size.
class Network {
 public:
  // Training plans are bound at once, so that a run that does not fit fails before it starts;
  // inference plans at their first use. Errors: kDevice for a GPU too small for the run: before
  // anything is allocated by what is certain then (parameters, gradients, the optimizer's state
  // and, of all plans, activations, inputs and weights in bf16; neither workspaces nor what is
  // received of other ranks), and again when the bound plans have taken their workspaces.
  Network(const Config& config, int num_classes, int channels, comm::StreamView stream,
          const NetworkOptions& options);

  const models::Model& model() const { return *model_; }
  models::ParameterStorage& storage() { return *storage_; }
  const models::ParameterLayout& layout() const { return *storage_->layout; }
  models::Executable& training(std::size_t bucket) { return *training_.at(bucket); }
  models::Executable& inference(std::size_t bucket);
  // Training plans of micro-batches that are computed in lock-step, each slot with activations and
  // gradients of its own: memory grows with `num_slots`. Slot 0 is training(bucket).
  void bind_lock_step(std::int64_t num_slots);
  models::Executable& training(std::size_t bucket, std::size_t slot) {
    return slot == 0 ? training(bucket) : *lock_step_.at(slot - 1).at(bucket);
  }
  // Where the executables of a slot >= 1 write their gradients.
  const comm::Buffer& gradients(std::size_t slot) const { return gradients_.at(slot - 1); }
  const std::vector<std::string>& counters() const { return counters_; }
  comm::StreamView stream() const { return stream_; }
  int num_classes() const { return num_classes_; }  // with background where the model has one
  std::int64_t num_parameters() const;  // elements that are parameters to torchvision's count

 private:
  models::PlanOptions plan_options(bool training) const;
  models::Plan inference_plan(const InputSize& size,
                              const std::shared_ptr<const models::ParameterLayout>& layout) const;
  models::BindOptions bind_options();
  struct Memory {
    std::int64_t at_once = 0, later = 0;  // bytes that the constructor takes, and the run after it
  };
  Memory memory_for(const std::vector<models::Plan>& plans) const;

  Config config_;
  int num_classes_;
  int channels_;
  comm::StreamView stream_;
  NetworkOptions options_;
  std::unique_ptr<models::Model> model_;
  std::unique_ptr<models::ParameterStorage> storage_;
  models::SharedState engines_;  // planning them takes seconds: once for all executables
  std::vector<std::unique_ptr<models::Executable>> training_, inference_;
  std::deque<comm::Buffer> gradients_;  // of slots from 1 on; addresses stay
  std::vector<std::vector<std::unique_ptr<models::Executable>>> lock_step_;  // likewise, by bucket
  std::vector<std::string> counters_;
};

}  // namespace trainer
