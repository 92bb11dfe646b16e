#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/checkpoint/snapshot.h"

namespace trainer {

inline constexpr std::int64_t kManifestFormat = 1;
inline constexpr const char* kManifestName = "MANIFEST.json";
inline constexpr const char* kModelName = "model.h5";
inline constexpr const char* kEmaName = "model-ema.h5";

// A whole tensor of model.h5, or a piece [begin, end) of optimizer state, which is the dataset
// state/tensor/begin-end of its file, or begin-end-tile in tiles.
struct TensorEntry {
  std::string name;
  ElementType type = ElementType::kFloat32;
  std::vector<std::int64_t> shape;
};
struct PieceEntry {
  std::string state;
  std::string tensor;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  int tile = 1;

  std::string path() const;
};

struct FileEntry {
  std::string name;
  std::uint64_t num_bytes = 0;
  std::string digest;
  std::vector<TensorEntry> tensors;
  std::vector<PieceEntry> pieces;
};

// MANIFEST.json (FORMAT.md). Its presence with a digest that matches is what makes a folder a
// checkpoint.
struct Manifest {
  std::int64_t sequence = 0;  // of the commits of a run: the newest has the largest
  CheckpointMeta meta;
  std::vector<FileEntry> files;
  std::string digest;  // of the manifest itself
};

std::string optimizer_file_name(int rank, int size);

// The complete text; the digest is computed, not taken from `manifest`.
std::string encode_manifest(const Manifest& manifest);
// Errors: kCheckpointRefused.
Manifest decode_manifest(std::string_view text);
// Errors: kCheckpointRefused naming the folder, also where there is no manifest.
Manifest load_manifest(const std::filesystem::path& folder);

// What a rank wrote, as text for the other ranks. Errors: kBug.
std::string encode_files(const std::vector<FileEntry>& files);
std::vector<FileEntry> decode_files(std::string_view text);

// Names inside a checkpoint: one or more of [A-Za-z0-9._-], not "." or "..".
bool is_plain_name(std::string_view name);

// Compares a file, read as digest_file does, with its entry. Errors: kCheckpointRefused saying what
// differs.
void verify_file(const std::filesystem::path& folder, const FileEntry& entry, bool from_disk);
// The bytes, verified. Errors: as above.
std::vector<std::byte> read_verified(const std::filesystem::path& folder, const FileEntry& entry);

}  // namespace trainer
