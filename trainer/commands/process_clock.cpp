#include "trainer/commands/process_clock.h"

#include <unistd.h>

#include <ctime>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <string>

namespace trainer {

double seconds_since_process_start() {
  constexpr int kStartTime = 22;  // field of /proc/self/stat (proc(5)), in ticks since boot
  std::ifstream file("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::size_t name_end = text.rfind(')');  // the name may hold blanks
  timespec boot{};
  if (name_end == std::string::npos || clock_gettime(CLOCK_BOOTTIME, &boot) != 0) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= kStartTime; ++i) fields >> field;
  const double start = std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
  return static_cast<double>(boot.tv_sec) + 1e-9 * static_cast<double>(boot.tv_nsec) - start;
}

}  // namespace trainer
