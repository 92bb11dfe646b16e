#include <nvtx3/nvToolsExt.h>

#include "comm/range.h"

namespace comm {

ScopedRange::ScopedRange(const char* name) { nvtxRangePushA(name); }
ScopedRange::~ScopedRange() { nvtxRangePop(); }

}  // namespace comm
