#pragma once

#include <functional>
#include <string>

#include "comm/communicator.h"
#include "comm/progress.h"

namespace trainer {

using comm::AgreedError;

// A failure as it travels between ranks; empty text: none.
struct Failure {
  comm::ExitCode code = comm::ExitCode::kDone;
  std::string text;
  explicit operator bool() const { return !text.empty(); }
};
std::string pack(const Failure& failure);
Failure unpack(const std::string& bytes);

// Runs `work` on every rank, then throws the first failing rank's error on all of them.
// Collective. Lost peers are not agreed upon: that error passes through.
void agree(comm::Communicator& communicator, const std::function<void()>& work);
// For work that may take one rank long: says in `progress` that the others only wait for it.
void agree(comm::Communicator& communicator, comm::Progress& progress,
           const std::function<void()>& work);

// What `work` throws, as a failure; kPeerLost passes through.
Failure capture(const std::function<void()>& work);

}  // namespace trainer
