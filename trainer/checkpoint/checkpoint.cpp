#include "trainer/checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "comm/error.h"
#include "trainer/checkpoint/hdf5_image.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

[[noreturn]] void refuse(const fs::path& path, const std::string& why) {
  comm::fail(comm::ExitCode::kCheckpointRefused, "checkpoint {}: {}", quote_text(path.native()),
             why);
}

const FileEntry* find_file(const Manifest& manifest, const std::string& name) {
  for (const FileEntry& file : manifest.files)
    if (file.name == name) return &file;
  return nullptr;
}

TensorMap read_tensors(const fs::path& folder, const Manifest& manifest, const std::string& name) {
  const FileEntry* file = find_file(manifest, name);
  if (file == nullptr) refuse(folder, fmt::format("holds no {}", name));
  const std::vector<std::byte> bytes = read_verified(folder, *file);
  TensorMap tensors;
  try {
    const ImageReader reader(bytes, Trust::kOwn);
    for (const TensorEntry& entry : file->tensors) {
      Array array = reader.read(entry.name);
      if (array.shape != entry.shape || array.type != entry.type)
        refuse(folder / name, fmt::format("{} is not as in the manifest", quote_text(entry.name)));
      tensors.emplace(entry.name, std::move(array));
    }
  } catch (const comm::Error& error) {
    if (error.code() != comm::ExitCode::kData) throw;
    refuse(folder / name, error.what());
  }
  return tensors;
}

bool overlaps(const PieceEntry& piece, const StateRange& range) {
  return piece.state == range.state && piece.tensor == range.tensor && piece.begin < range.end &&
         range.begin < piece.end;
}

// Copies what the piece and the range share. Returns the number of elements.
std::int64_t copy_shared(const PieceEntry& piece, std::span<const float> values,
                         const StateRange& range) {
  const std::int64_t begin = std::max(piece.begin, range.begin);
  const std::int64_t end = std::min(piece.end, range.end);
  const auto count = static_cast<std::size_t>(end - begin);
  const auto from = values.subspan(static_cast<std::size_t>(begin - piece.begin), count);
  std::copy(from.begin(), from.end(),
            range.out.subspan(static_cast<std::size_t>(begin - range.begin), count).begin());
  return end - begin;
}

// Positions of the ranges of each (state, tensor), so that a piece meets only its own.
using RangeIndex = std::map<std::pair<std::string, std::string>, std::vector<std::size_t>>;

struct Filling {
  std::span<const StateRange> ranges;
  RangeIndex index;
  std::vector<std::int64_t> filled;

  explicit Filling(std::span<const StateRange> wanted) : ranges(wanted), filled(wanted.size(), 0) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const StateRange& range = wanted[i];
      REQUIRE(range.begin >= 0 && range.end - range.begin == std::ssize(range.out),
              "range [{}, {}) of {} and a buffer of {}", range.begin, range.end, range.tensor,
              range.out.size());
      index[{range.state, range.tensor}].push_back(i);
    }
  }
  std::vector<std::size_t> sharing(const PieceEntry& piece) const {
    std::vector<std::size_t> found;
    const auto entry = index.find({piece.state, piece.tensor});
    if (entry == index.end()) return found;
    for (const std::size_t i : entry->second)
      if (overlaps(piece, ranges[i])) found.push_back(i);
    return found;
  }
};

void fill_from(const fs::path& folder, const FileEntry& file, Filling& filling) {
  std::vector<std::byte> bytes;
  std::optional<ImageReader> reader;
  for (const PieceEntry& piece : file.pieces) {
    const std::vector<std::size_t> sharing = filling.sharing(piece);
    if (sharing.empty()) continue;
    if (!reader) {
      bytes = read_verified(folder, file);
      reader.emplace(bytes, Trust::kOwn);
    }
    const Array values = reader->read(piece.path());
    if (std::ssize(values.floats()) != piece.end - piece.begin)
      refuse(folder / file.name,
             fmt::format("{} has {} elements", piece.path(), values.floats().size()));
    for (const std::size_t i : sharing)
      filling.filled[i] += copy_shared(piece, values.floats(), filling.ranges[i]);
  }
}

// Two pieces that share elements would let a hole elsewhere go unnoticed; a tensor is flattened in
// one way.
void require_consistent(const fs::path& folder, const Manifest& manifest) {
  std::vector<PieceEntry> pieces;
  for (const FileEntry& file : manifest.files)
    pieces.insert(pieces.end(), file.pieces.begin(), file.pieces.end());
  const auto key = [](const PieceEntry& p) { return std::tie(p.state, p.tensor, p.begin, p.end); };
  std::sort(pieces.begin(), pieces.end(),
            [&](const PieceEntry& a, const PieceEntry& b) { return key(a) < key(b); });
  for (std::size_t i = 1; i < pieces.size(); ++i) {
    const PieceEntry& a = pieces[i - 1];
    const PieceEntry& b = pieces[i];
    if (a.state != b.state || a.tensor != b.tensor) continue;
    if (b.begin < a.end) refuse(folder, fmt::format("{} and {} overlap", a.path(), b.path()));
    if (a.tile != b.tile) refuse(folder, fmt::format("{} and {} differ", a.path(), b.path()));
  }
}

}  // namespace

Checkpoint::Checkpoint(fs::path folder, Manifest manifest)
    : folder_(std::move(folder)), manifest_(std::make_unique<Manifest>(std::move(manifest))) {
  require_consistent(folder_, *manifest_);
}
Checkpoint::~Checkpoint() = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;

const CheckpointMeta& Checkpoint::meta() const { return manifest_->meta; }

TensorMap Checkpoint::model() const { return read_tensors(folder_, *manifest_, kModelName); }

bool Checkpoint::has_ema() const { return find_file(*manifest_, kEmaName) != nullptr; }

TensorMap Checkpoint::ema() const { return read_tensors(folder_, *manifest_, kEmaName); }

std::vector<std::string> Checkpoint::states() const {
  std::set<std::string> names;
  for (const FileEntry& file : manifest_->files)
    for (const PieceEntry& piece : file.pieces) names.insert(piece.state);
  return {names.begin(), names.end()};
}

int Checkpoint::tile(const std::string& state, const std::string& tensor) const {
  for (const FileEntry& file : manifest_->files) {
    for (const PieceEntry& piece : file.pieces)
      if (piece.state == state && piece.tensor == tensor) return piece.tile;
  }
  return 1;
}

void Checkpoint::read_state(std::span<const StateRange> ranges) const {
  Filling filling(ranges);
  for (const FileEntry& file : manifest_->files) {
    try {
      fill_from(folder_, file, filling);
    } catch (const comm::Error& error) {
      if (error.code() != comm::ExitCode::kData) throw;
      refuse(folder_ / file.name, error.what());
    }
  }
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const StateRange& range = ranges[i];
    if (filling.filled[i] != range.end - range.begin)
      refuse(folder_, fmt::format("state {} of {}: {} of the elements [{}, {}) are saved",
                                  quote_text(range.state), quote_text(range.tensor),
                                  filling.filled[i], range.begin, range.end));
  }
}

void Checkpoint::read_range(const std::string& state, const std::string& tensor, std::int64_t begin,
                            std::int64_t end, std::span<float> out) const {
  const StateRange range{state, tensor, begin, end, out};
  read_state({&range, 1});
}

}  // namespace trainer
