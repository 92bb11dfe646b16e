#pragma once

namespace trainer {

// Seconds since this process was started (resolution of the kernel's clock tick, 10 ms); NaN where
// /proc does not say.
double seconds_since_process_start();

}  // namespace trainer
