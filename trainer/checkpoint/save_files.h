#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "trainer/checkpoint/hdf5_image.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/snapshot.h"

namespace trainer {

// The stages of a save that need no communication. Writing and the commit run on a background
// thread, building too where the snapshot's memory is kept.

// A file of this rank, complete in memory. The entry lacks size and digest.
struct PendingFile {
  FileEntry entry;
  ImageBytes image;
};

// Copies what this rank has to save into HDF5 images, in the memory of the last save's: the system
// may take 0.6 s to clear 270 MB of new memory. Errors: kBug (names, sizes), kSystemLimit.
std::vector<PendingFile> build_images(const Snapshot& snapshot, int rank, int size,
                                      std::vector<ImageBytes> spare);

// What a background stage has done; `problem` is empty on success.
struct WriteResult {
  std::vector<FileEntry> files;
  std::string problem;
  std::vector<ImageBytes> spare;  // for the next save
};

// Writes what `build` returns into `folder`, reads each file back and compares. Stops early once
// `cancelled`. An exception of `build` is a problem like any other.
WriteResult write_files(const std::filesystem::path& folder,
                        const std::function<std::vector<PendingFile>()>& build,
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
