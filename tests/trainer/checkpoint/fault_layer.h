#pragma once

#include <string>
#include <vector>

// The test executable defines the system-call functions of libc that change files, so that the code
// under test calls these: they count, record, fail or kill, then do the real call. Calls on paths
// outside the armed folder pass through untouched.
namespace trainer::fault {

enum class Kind { kOpen, kWrite, kSync, kRename, kMakeFolder, kRemove, kLink, kClose };

// A call that succeeded, with absolute paths.
struct Operation {
  Kind kind;
  std::string path;
  std::string other;  // destination of a rename, target of a link
  std::string data;   // of a write
  bool truncates = false;
};

enum class Action {
  kCount,       // nothing happens
  kKill,        // SIGKILL to the process instead of call number `at`
  kTornKill,    // where the call is a write: half of its bytes, then SIGKILL
  kShortWrite,  // where the call is a write: half of its bytes are written and reported
  kError,       // the call fails with `error`
};

struct Plan {
  std::string folder;
  Action action = Action::kCount;
  long at = -1;
  bool from_then_on = false;  // kError: also every later call
  int error = 0;
  bool record = false;
};

void arm(const Plan& plan);
// Returns how many calls were counted since arm, and what they were when recorded.
long disarm(std::vector<Operation>* operations = nullptr);

}  // namespace trainer::fault
