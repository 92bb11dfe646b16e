#pragma once

#include <functional>
#include <span>

#include "comm/error.h"

namespace trainer {

// One end of the stream between the two processes. Errors: kData when the other end is gone.
class Stream {
 public:
  explicit Stream(int descriptor) : descriptor_(descriptor) {}
  void write(std::span<const std::byte> bytes);
  void read(std::span<std::byte> bytes);

 private:
  int descriptor_;
};

// Runs `child` in a process of its own that cannot open files or sockets, write files or dump core,
// and has kCpuSeconds to finish, while `parent` reads what it writes. For code that may crash on
// hostile input. Errors: kData with the child's message, or saying how it ended.
// REQUIRES: no other thread holds a lock that `child` needs, other than malloc's.
void run_isolated(const std::function<void(Stream&)>& child,
                  const std::function<void(Stream&)>& parent);

inline constexpr int kCpuSeconds = 120;

// Sanitizers open files of their own in the child.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int kMaxFilesOfChild = 256;
#else
inline constexpr int kMaxFilesOfChild = 0;
#endif

}  // namespace trainer
