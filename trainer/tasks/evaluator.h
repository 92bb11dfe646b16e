#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "models/model.h"
#include "trainer/config/config.h"
#include "trainer/data/batch.h"
#include "trainer/data/dataset.h"
#include "trainer/eval/metrics.h"
#include "trainer/tasks/host_outputs.h"

namespace trainer {

// What one task makes of the outputs of inference plans: numbers, files and a picture. The same
// numbers whichever rank added which image; an image that none added is in none of them.
class Evaluator {
 public:
  virtual ~Evaluator() = default;
  // Image n of a batch, from what its plan put out. Errors: what reading its ground truth throws;
  // kIo.
  virtual void add(const HostOutputs& outputs, const Batch& batch, int n) = 0;
  // Brings together on rank 0 what the ranks added. Collective.
  virtual void gather(comm::Communicator& communicator) = 0;
  // The following on rank 0, after gather.
  virtual Metrics metrics() const = 0;
  // Results and curves, beside metrics.json. Errors: kIo.
  virtual void write(const std::filesystem::path& folder) const = 0;
  // Predictions and ground truth of some images.
  virtual Image picture() const = 0;
};

// What evaluators know of the model and of the run.
struct EvaluatorOptions {
  int num_classes = 0;               // of the model
  std::filesystem::path label_maps;  // where `add` writes each predicted label map; empty: nowhere
};

// REQUIRES: the dataset outlives the evaluator.
std::unique_ptr<Evaluator> make_evaluator(models::Task task, const Config& config,
                                          const Dataset& dataset, const EvaluatorOptions& options);
std::unique_ptr<Evaluator> make_detection_evaluator(const Config& config, const Dataset& dataset);
std::unique_ptr<Evaluator> make_segmentation_evaluator(const Dataset& dataset,
                                                       const EvaluatorOptions& options);
std::unique_ptr<Evaluator> make_classification_evaluator(const Dataset& dataset, int num_classes);

// Of the classes 0..num_classes-1; the number where the data name none.
std::vector<std::string> names_of_classes(const Dataset& dataset, int num_classes);

}  // namespace trainer
