#pragma once

#include <string>

namespace software_gpu {

// Says what was wrong, shows the stack and ends the process: errors that CUDA would not tell.
[[noreturn]] void die(const std::string& what);

// From now on a fault at an address of a device says so before the process ends of it.
void explain_faults();

// Name of the work that runs now, for that message; null: none does.
void set_running(const char* name);

// "models::Pack" for the mangled name of a type; other text as it is.
std::string readable(const char* name);

}  // namespace software_gpu
