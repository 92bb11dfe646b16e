#include <csignal>
#include <cstdio>
#include <optional>

#include "comm/communicator.h"
#include "comm/heartbeat.h"
#include "comm/signals.h"
#include "trainer/agree.h"
#include "trainer/commands/cli.h"

namespace {

// "ridgeline: error 78: ..." on stderr: the one line of a failure.
void say(comm::ExitCode code, const char* text) {
  std::fprintf(stderr, "ridgeline: error %d: %s\n", static_cast<int>(code), text);
}

// One of several ranks that leaves takes the others along.
int failed(comm::Communicator& communicator, comm::ExitCode code, const char* text) {
  say(code, text);
  if (communicator.size() > 1) communicator.abort(code);
  return static_cast<int>(code);
}

int run(int argc, char** argv, comm::Communicator& communicator) {
  comm::Progress progress;
  std::optional<comm::StopSignals> signals;
  try {
    const comm::Heartbeat heartbeat(communicator, progress, {});
    return trainer::run_command_line(argc, argv, {communicator, progress, signals});
  } catch (const trainer::AgreedError& e) {  // thrown by all ranks: one speaks, all leave
    if (communicator.rank() == 0) say(e.code(), e.what());
    return static_cast<int>(e.code());
  } catch (const comm::Error& e) {
    return failed(communicator, e.code(), e.what());
  } catch (const std::exception& e) {
    return failed(communicator, comm::ExitCode::kBug, e.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a console that went away does not end a run
  try {
    const auto communicator = comm::launch_communicator(&argc, &argv);
    return run(argc, argv, *communicator);
  } catch (const comm::Error& e) {
    say(e.code(), e.what());
    return static_cast<int>(e.code());
  }
}
