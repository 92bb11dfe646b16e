#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "trainer/checkpoint/hdf5_image.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/snapshot.h"

namespace trainer {

// The stages of a save that need no communication; the last two run on a background thread.

// A file of this rank, complete in memory. The entry lacks size and digest.
struct PendingFile {
  FileEntry entry;
  ImageBytes image;
};

// Copies what this rank has to save into HDF5 images. Errors: kBug (names, sizes), kSystemLimit.
std::vector<PendingFile> build_images(const Snapshot& snapshot, int rank, int size);

// What a background stage has done; `problem` is empty on success.
struct WriteResult {
  std::vector<FileEntry> files;
  std::string problem;
};

// Writes the files into `folder`, reads each back and compares. Stops early once `cancelled`.
WriteResult write_files(const std::filesystem::path& folder, std::vector<PendingFile> files,
                        const std::atomic<bool>& cancelled);

struct CommitRequest {
  std::filesystem::path checkpoints;
  std::filesystem::path temporary;  // holds the files of all ranks
  Manifest manifest;
  int keep = 0;
};
struct CommitResult {
  std::string problem;                // the checkpoint does not count
  std::vector<std::string> warnings;  // the checkpoint stands, something around it went wrong
};

// Manifest, rename of the folder, link to the best, removal of old checkpoints, in this order.
CommitResult commit(const CommitRequest& request);

// Removes what killed runs left, mends the link to the best. Returns the newest commit's sequence,
// 0 without any. Errors: kIo.
std::int64_t recover(const std::filesystem::path& checkpoints);

}  // namespace trainer
