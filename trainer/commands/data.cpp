#include "trainer/commands/data.h"

#include "trainer/data/data_report.h"
#include "trainer/data/loader.h"

namespace trainer {

Fields fields_of(ModelName model) {
  switch (model) {
    case ModelName::kRetinanet:
      return {.boxes = true};
    case ModelName::kFcn:
      return {.label_map = true};
    case ModelName::kMlp:
    case ModelName::kCnn:
    case ModelName::kClassifier:
      return {.label = true};
  }
  REQUIRE(false, "model {}", static_cast<int>(model));
  return {};
}

DataOutput run_data(const Config& config, const DataCommand& command) {
  const DataReport report =
      data_report(config.data, {.fields = fields_of(config.model.name),
                                .model_num_classes = config.model.num_classes.value_or(0),
                                .check = command.check,
                                .threads = command.threads});
  return {command.json ? data_report_json(report) : data_report_text(report, config.data),
          report.stop};
}

PictureBatches picture_batches(const Config& config, int count) {
  const Fields fields = fields_of(config.model.name);
  const auto dataset =
      open_dataset(config.data, {.split = "train",
                                 .fields = fields,
                                 .model_num_classes = config.model.num_classes.value_or(0)});
  const auto loader = Loader::train(*dataset, config.data,
                                    {.fields = fields,
                                     .seed = static_cast<std::uint64_t>(config.train.seed),
                                     .batch = config.train.batch,
                                     .micro_batch = config.train.micro_batch});
  PictureBatches result;
  for (int i = 0; i < count; ++i) result.batches.push_back(*loader->next());
  for (int label = 0; label < dataset->num_classes(); ++label)
    result.class_names.push_back(dataset->class_name(label));
  return result;
}

}  // namespace trainer
