#pragma once

#include <filesystem>
#include <string>

namespace trainer {

// Who runs which trial: a file per claimed trial in DIR/claims, created with O_EXCL, so the first
// group that comes takes it, on one host or over NFS. The claims say nothing about results: a
// search empties the folder when it starts.
class TrialQueue {
 public:
  explicit TrialQueue(std::filesystem::path folder);

  // Forgets all claims. REQUIRES: nobody claims meanwhile. Errors: kIo.
  void clear() const;
  // True for the first caller with this id. Errors: kIo.
  bool claim(const std::string& id) const;
  // Asks every group to take no further trial.
  void close() const noexcept;
  bool closed() const noexcept;

 private:
  std::filesystem::path folder_;
};

}  // namespace trainer
