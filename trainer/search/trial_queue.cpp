#include "trainer/search/trial_queue.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "comm/error.h"

namespace trainer {
namespace {

constexpr const char* kClosed = "closed";

// False when the file exists.
bool create(const std::filesystem::path& file) {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor >= 0) ::close(descriptor);
  return descriptor >= 0;
}

}  // namespace

TrialQueue::TrialQueue(std::filesystem::path folder) : folder_(std::move(folder)) {}

void TrialQueue::clear() const {
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
  if (!error) std::filesystem::create_directories(folder_, error);
  if (error)
    comm::fail(comm::ExitCode::kIo, "cannot empty \"{}\": {}; check its permissions",
               folder_.string(), error.message());
}

bool TrialQueue::claim(const std::string& id) const {
  if (create(folder_ / id)) return true;
  if (errno != EEXIST)
    comm::fail(comm::ExitCode::kIo, "cannot create \"{}\": {}; check the disk's space",
               (folder_ / id).string(), std::strerror(errno));
  return false;
}

void TrialQueue::close() const noexcept { create(folder_ / kClosed); }

bool TrialQueue::closed() const noexcept {
  return ::access((folder_ / kClosed).c_str(), F_OK) == 0;
}

}  // namespace trainer
