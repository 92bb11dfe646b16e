#include "trainer/commands/verbs.h"

#include <CLI/CLI.hpp>

namespace trainer {

void add_config_arguments(CLI::App& verb, ConfigArguments& arguments) {
  verb.add_option("CONFIG", arguments.path, "configuration file (YAML)")->required();
  verb.add_option("KEY=VALUE", arguments.overrides,
                  "overrides, such as optimizer.lr=0.02 or data.size=[256,256]");
}

void add_verbs(CLI::App& app, const CommandContext& context, int&) {
  add_train(app, context);
  add_eval(app, context);
  add_score(app, context);
  add_data(app, context);
  add_config(app, context);
  add_params(app, context);
  add_plan(app, context);
  add_bench(app, context);
  add_doctor(app, context);
  add_predict(app, context);
  add_search(app, context);
  add_reg_check(app, context);
}

}  // namespace trainer
