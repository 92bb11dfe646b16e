#pragma once

#include <exception>
#include <filesystem>
#include <new>
#include <optional>
#include <string>

#include "comm/communicator.h"

namespace trainer {

// Decisions that all ranks take alike. Collective.

// Rank 0's text on every rank.
std::string from_rank0(comm::Communicator& comm, const std::string& text);

// Throws the lowest rank's error, if any rank has one, on every rank.
void agree(comm::Communicator& comm, const std::optional<comm::Error>& mine);

// Runs `work` and lets all ranks fail alike when it throws on one.
template <typename Work>
void run_agreed(comm::Communicator& comm, Work&& work) {
  std::optional<comm::Error> mine;
  try {
    work();
  } catch (const comm::Error& error) {
    mine = error;
  } catch (const std::bad_alloc&) {
    mine.emplace(comm::ExitCode::kSystemLimit, "out of memory while handling a checkpoint");
  } catch (const std::filesystem::filesystem_error& error) {
    mine.emplace(comm::ExitCode::kIo, error.what());
  } catch (const std::exception& error) {
    mine.emplace(comm::ExitCode::kBug, error.what());
  }
  agree(comm, mine);
}

}  // namespace trainer
