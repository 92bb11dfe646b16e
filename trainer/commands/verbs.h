#pragma once

#include "trainer/commands/cli.h"

namespace CLI {
class App;
}

namespace trainer {

// Adds every verb to the command line; a verb's work runs while CLI11 parses it.
void add_verbs(CLI::App& app, const CommandContext& context, int& exit_code);

// One function a verb, each in its own file: declares options, sets the callback.
void add_train(CLI::App& app, const CommandContext& context);
void add_eval(CLI::App& app, const CommandContext& context);
void add_score(CLI::App& app, const CommandContext& context);
void add_data(CLI::App& app, const CommandContext& context);
void add_config(CLI::App& app, const CommandContext& context);
void add_params(CLI::App& app, const CommandContext& context);
void add_plan(CLI::App& app, const CommandContext& context);
void add_bench(CLI::App& app, const CommandContext& context);
void add_doctor(CLI::App& app, const CommandContext& context);
void add_predict(CLI::App& app, const CommandContext& context);
void add_reg_check(CLI::App& app, const CommandContext& context);
void add_search(CLI::App& app, const CommandContext& context);

// CONFIG and trailing KEY=VALUE.
void add_config_arguments(CLI::App& verb, ConfigArguments& arguments);

}  // namespace trainer
