// Apart from gpu.cpp, which tests replace as a whole by another survey.
#include <fmt/format.h>

#include "comm/gpu.h"

namespace comm {

std::string cuda_version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace comm
