#pragma once

#include <string>

namespace comm {

// "Open MPI v4.1.4", as the library that is linked names itself.
std::string mpi_version();

}  // namespace comm
