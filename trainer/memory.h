#pragma once

#include <cstdint>

namespace trainer {

// Peak resident memory of this process.
std::int64_t peak_memory_bytes();

}  // namespace trainer
