#pragma once

#include <cstdlib>
#include <string>

namespace goldens {

// A file of this folder: where RIDGELINE_GOLDENS in the environment says, for a program that runs
// on another machine (launch/bundled), else in the sources.
inline std::string path_of(const std::string& name) {
  const char* folder = std::getenv("RIDGELINE_GOLDENS");
  return std::string(folder != nullptr ? folder : RIDGELINE_SOURCE_DIR "/tests/goldens") + "/" +
         name;
}

}  // namespace goldens
