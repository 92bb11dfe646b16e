#include "trainer/tasks/evaluator.h"

namespace trainer {

std::unique_ptr<Evaluator> make_evaluator(models::Task task, const Config& config,
                                          const Dataset& dataset, const EvaluatorOptions& options) {
  switch (task) {
    case models::Task::kDetection:
      return make_detection_evaluator(config, dataset);
    case models::Task::kSegmentation:
      return make_segmentation_evaluator(dataset, options);
    case models::Task::kClassification:
      return make_classification_evaluator(dataset, options.num_classes);
  }
  REQUIRE(false, "task {}", static_cast<int>(task));
  return nullptr;
}

std::vector<std::string> names_of_classes(const Dataset& dataset, int num_classes) {
  std::vector<std::string> names;
  for (int k = 0; k < num_classes; ++k) {
    const std::string name = dataset.class_name(k);
    names.push_back(name.empty() ? std::to_string(k) : name);
  }
  return names;
}

}  // namespace trainer
