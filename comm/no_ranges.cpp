#include "comm/range.h"

namespace comm {

ScopedRange::ScopedRange(const char*) {}
ScopedRange::~ScopedRange() = default;

}  // namespace comm
