#include "trainer/commands/data.h"

#include "trainer/data/data_report.h"
#include "trainer/feed.h"

namespace trainer {

DataOutput run_data(const Config& config, const DataCommand& command) {
  const DataReport report =
      data_report(config.data, {.fields = fields_of(config.model.name),
                                .model_num_classes = config.model.num_classes.value_or(0),
                                .check = command.check,
                                .threads = command.threads});
  return {command.json ? data_report_json(report) : data_report_text(report, config.data),
          report.stop};
}

}  // namespace trainer
