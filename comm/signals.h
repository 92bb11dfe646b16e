#pragma once

namespace comm {

// Turns SIGUSR1, SIGTERM and SIGINT into a request to stop, which the training loop polls. A
// second signal at least one second after the first ends the process at once with status 75 (the
// last commit stands); sooner it is taken for the same request, because launchers and schedulers
// deliver one request along two ways.
// REQUIRES: one object at a time; it restores the former handlers when it goes.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool requested() const { return signal() != 0; }
  int signal() const;  // the first one received; 0: none
};

}  // namespace comm
