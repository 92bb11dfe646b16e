#include "trainer/checkpoint/save_files.h"

#include <fmt/format.h>

#include <chrono>
#include <exception>
#include <system_error>
#include <thread>

#include "comm/error.h"
#include "trainer/checkpoint/digest.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

// How long another host may take to see the folder that rank 0 has made.
constexpr auto kVisibilityLimit = std::chrono::seconds(30);

void require_plain(const std::string& name) {
  REQUIRE(is_plain_name(name), "{} cannot be a name in a checkpoint", quote_text(name));
}

PendingFile build_tensors(const char* name, const std::vector<NamedArray>& arrays,
                          ImageBytes spare) {
  std::size_t num_bytes = 0;
  for (const NamedArray& array : arrays) num_bytes += array.bytes.size();
  ImageWriter writer(num_bytes, std::move(spare));
  PendingFile file;
  file.entry.name = name;
  for (const NamedArray& array : arrays) {
    require_plain(array.name);
    writer.write(array.name, array);
    file.entry.tensors.push_back({array.name, array.type, array.shape});
  }
  file.image = writer.finish();
  return file;
}

PendingFile build_pieces(const std::string& name, const std::vector<StatePiece>& pieces,
                         ImageBytes spare) {
  std::size_t num_bytes = 0;
  for (const StatePiece& piece : pieces) num_bytes += piece.values.size_bytes();
  ImageWriter writer(num_bytes, std::move(spare));
  PendingFile file;
  file.entry.name = name;
  for (const StatePiece& piece : pieces) {
    require_plain(piece.state);
    require_plain(piece.tensor);
    const std::int64_t count = piece.end - piece.begin;
    REQUIRE(piece.begin >= 0 && count == std::ssize(piece.values), "{}: [{}, {}) with {} values",
            piece.tensor, piece.begin, piece.end, piece.values.size());
    if (count == 0) continue;
    const PieceEntry entry{piece.state, piece.tensor, piece.begin, piece.end, piece.tile};
    writer.write(entry.path(),
                 {entry.tensor, {count}, ElementType::kFloat32, std::as_bytes(piece.values)});
    file.entry.pieces.push_back(entry);
  }
  file.image = writer.finish();
  return file;
}

void wait_until_visible(const fs::path& folder, const std::atomic<bool>& cancelled) {
  const auto deadline = std::chrono::steady_clock::now() + kVisibilityLimit;
  std::error_code error;
  while (!fs::is_directory(folder, error)) {
    if (cancelled || std::chrono::steady_clock::now() > deadline)
      comm::fail(comm::ExitCode::kIo, "the folder {} of rank 0 does not appear here",
                 quote_text(folder.native()));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

std::vector<PendingFile> build_images(const Snapshot& snapshot, int rank, int size,
                                      std::vector<ImageBytes> spare) {
  std::vector<PendingFile> files;
  spare.resize(3);
  if (rank == 0) {
    files.push_back(build_tensors(kModelName, snapshot.model, std::move(spare[0])));
    if (!snapshot.ema.empty())
      files.push_back(build_tensors(kEmaName, snapshot.ema, std::move(spare[1])));
  }
  ImageBytes& last = spare[files.size()];
  files.push_back(
      build_pieces(optimizer_file_name(rank, size), snapshot.optimizer, std::move(last)));
  return files;
}

WriteResult write_files(const fs::path& folder,
                        const std::function<std::vector<PendingFile>()>& build,
                        const std::atomic<bool>& cancelled) {
  WriteResult result;
  try {
    std::vector<PendingFile> files = build();
    wait_until_visible(folder, cancelled);
    for (PendingFile& file : files) {
      if (cancelled) break;
      file.entry.num_bytes = file.image.bytes().size();
      file.entry.digest = digest_of(file.image.bytes());
      write_durably(folder / file.entry.name, file.image.bytes());
      verify_file(folder, file.entry, /*from_disk=*/true);
      result.spare.push_back(std::move(file.image));
      result.files.push_back(std::move(file.entry));
    }
  } catch (const std::exception& error) {
    result.problem = error.what();
  }
  return result;
}

}  // namespace trainer
