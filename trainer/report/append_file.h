#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace trainer {

// A file that only grows and never harms the run: records are appended whole or not at all.
// Created at the first append. One writer per file; not thread-safe.
// Invariant: after a failed append (disk full, quota) the file ends behind the last whole record.
class AppendFile {
 public:
  explicit AppendFile(std::filesystem::path path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // Hands the record to the kernel. False: it could not be written and is lost; `error` says why.
  bool append(std::string_view record) noexcept;
  // Closes the file; the next append opens it anew (after a rename put another in its place).
  void close() noexcept;

  const std::filesystem::path& path() const { return path_; }
  std::int64_t num_lost() const { return num_lost_; }  // records lost so far
  std::string error() const;                           // of the last failure; empty: none

 private:
  bool open() noexcept;
  bool give_up() noexcept;

  std::filesystem::path path_;
  int descriptor_ = -1;
  int errno_ = 0;
  std::int64_t num_lost_ = 0;
};

// The folder and those above it. Errors: kIo.
void make_folders(const std::filesystem::path& folder);

// Replaces the file `path` by `bytes`: temporary name, fsync, rename, fsync of the folder. A reader
// sees the old or the new file. Missing folders are made. Errors: kIo.
void write_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace trainer
