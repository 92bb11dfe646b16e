#pragma once

#include <string>

namespace trainer {

// "1.10.8", of the HDF5 library that is linked.
std::string hdf5_version();

}  // namespace trainer
