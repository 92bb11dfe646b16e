#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "comm/signals.h"
#include "trainer/config/load.h"

namespace trainer {

// What every verb gets from main.
struct CommandContext {
  comm::Communicator& communicator;
  comm::Progress& progress;
  std::optional<comm::StopSignals>& signals;  // emplaced by the verbs that end in good order
  bool is_root() const { return communicator.rank() == 0; }
};

// CONFIG and its KEY=VALUE overrides, as most verbs take them.
struct ConfigArguments {
  std::string path;
  std::vector<std::string> overrides;
};

// Reads the configuration on every rank and makes sure that all read the same. Collective.
// Errors: kConfig, kInputMissing, on all ranks.
LoadedConfig load_agreed_config(const ConfigArguments& arguments, comm::Communicator& communicator);

// Parses the command line and runs the verb; the exit code. Errors: comm::Error (kUsage with the
// nearest verb or option).
int run_command_line(int argc, const char* const* argv, const CommandContext& context);

}  // namespace trainer
