#pragma once

#include <hdf5.h>

#include <string>

#include "comm/error.h"

namespace trainer {

// Innermost cause of the last failed HDF5 call of this thread.
std::string hdf5_cause();

[[noreturn]] void fail_hdf5(comm::ExitCode code, const char* call, const std::string& object);

// Silences HDF5's own printing on this thread and forbids it to load plug-ins.
void prepare_hdf5();

// A negative result of an HDF5 call is an error.
template <typename T>
T check_hdf5(T result, comm::ExitCode code, const char* call, const std::string& object) {
  if (result < 0) fail_hdf5(code, call, object);
  return result;
}

// Owner of an HDF5 identifier. `close` reports; the destructor closes on the error path only, where
// an error is already on its way.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Hdf5Handle(hid_t id, Close close, comm::ExitCode code, const char* call,
             const std::string& object)
      : id_(check_hdf5(id, code, call, object)), close_(close), code_(code), object_(object) {}
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  Hdf5Handle(const Hdf5Handle&) = delete;
  Hdf5Handle& operator=(const Hdf5Handle&) = delete;

  hid_t get() const { return id_; }
  hid_t release() {
    const hid_t id = id_;
    id_ = -1;
    return id;
  }
  void close() { check_hdf5(close_(release()), code_, "close", object_); }

 private:
  hid_t id_;
  Close close_;
  comm::ExitCode code_;
  std::string object_;
};

}  // namespace trainer
