#include "trainer/agree.h"

#include <cstdlib>
#include <new>

namespace trainer {

std::string pack(const Failure& failure) {
  return failure ? std::to_string(static_cast<int>(failure.code)) + " " + failure.text : "";
}

Failure unpack(const std::string& bytes) {
  if (bytes.empty()) return {};
  const std::size_t space = bytes.find(' ');
  return {static_cast<comm::ExitCode>(std::atoi(bytes.c_str())), bytes.substr(space + 1)};
}

Failure capture(const std::function<void()>& work) {
  try {
    work();
  } catch (const AgreedError&) {
    throw;
  } catch (const comm::Error& e) {
    if (e.code() == comm::ExitCode::kPeerLost) throw;
    return {e.code(), e.what()};
  } catch (const std::bad_alloc&) {
    return {comm::ExitCode::kSystemLimit,
            "out of memory; use a smaller micro-batch or fewer ranks"};
  } catch (const std::exception& e) {
    return {comm::ExitCode::kBug, e.what()};
  }
  return {};
}

void agree(comm::Communicator& communicator, const std::function<void()>& work) {
  comm::Progress unwatched;
  agree(communicator, unwatched, work);
}

void agree(comm::Communicator& communicator, comm::Progress& progress,
           const std::function<void()>& work) {
  const Failure mine = capture(work);
  const comm::Progress::Waiting waiting(progress);
  for (const std::string& bytes : communicator.all_gather(pack(mine))) {
    if (const Failure failure = unpack(bytes)) throw AgreedError(failure.code, failure.text);
  }
}

}  // namespace trainer
