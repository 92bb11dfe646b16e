#include "trainer/checkpoint/weights.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <system_error>
#include <type_traits>

#include "comm/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/collective.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/hdf5_image.h"
#include "trainer/checkpoint/isolated.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

using comm::ExitCode;

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{16} << 30;
constexpr std::size_t kMaxNameBytes = 1024;

// What precedes a tensor's name and elements in the stream; the stream ends with `more` == 0.
struct Header {
  std::uint64_t more = 0;
  std::uint64_t name_bytes = 0;
  std::uint64_t type = 0;
  std::uint64_t rank = 0;
  std::uint64_t num_bytes = 0;
  std::array<std::int64_t, kMaxDimensions> shape{};
};
static_assert(std::is_trivially_copyable_v<Header>);

void send(Stream& stream, const std::string& name, const Array& array) {
  Header header{1,
                name.size(),
                static_cast<std::uint64_t>(array.type),
                array.shape.size(),
                array.bytes.size(),
                {}};
  std::copy(array.shape.begin(), array.shape.end(), header.shape.begin());
  stream.write(std::as_bytes(std::span(&header, 1)));
  stream.write(std::as_bytes(std::span(name)));
  stream.write(array.bytes);
}

void parse(std::span<const std::byte> file, Stream& stream) {
  const ImageReader reader(file, Trust::kForeign);
  for (const std::string& name : reader.root_datasets()) {
    if (name.size() > kMaxNameBytes)
      comm::fail(ExitCode::kData, "a tensor's name has {} bytes", name.size());
    send(stream, name, reader.read(name));
  }
  const Header end;
  stream.write(std::as_bytes(std::span(&end, 1)));
}

// The child may have been taken over by the file: its numbers are checked like the file's.
std::pair<std::string, Array> receive(Stream& stream, const Header& header) {
  const bool legal = header.name_bytes <= kMaxNameBytes && header.rank <= kMaxDimensions &&
                     header.type <= 1 && header.num_bytes <= kMaxTensorBytes;
  if (!legal) comm::fail(ExitCode::kData, "its reader sent nonsense");
  std::pair<std::string, Array> tensor;
  auto& [name, array] = tensor;
  name.resize(header.name_bytes);
  stream.read(std::as_writable_bytes(std::span(name)));
  array.type = static_cast<ElementType>(header.type);
  array.shape.assign(header.shape.begin(),
                     header.shape.begin() + static_cast<std::ptrdiff_t>(header.rank));
  std::size_t expected = element_bytes(array.type);
  for (const std::int64_t n : array.shape)
    if (n < 0 || __builtin_mul_overflow(expected, static_cast<std::size_t>(n), &expected))
      comm::fail(ExitCode::kData, "its reader sent nonsense");
  if (expected != header.num_bytes) comm::fail(ExitCode::kData, "its reader sent nonsense");
  array.bytes.resize(header.num_bytes);
  stream.read(array.bytes);
  return tensor;
}

TensorMap collect(Stream& stream) {
  TensorMap tensors;
  std::uint64_t total = 0;
  for (;;) {
    Header header;
    stream.read(std::as_writable_bytes(std::span(&header, 1)));
    if (header.more == 0) return tensors;
    total += header.num_bytes;
    if (tensors.size() == kMaxTensors || total > kMaxFileBytes)
      comm::fail(ExitCode::kData, "it holds too much");
    tensors.insert(receive(stream, header));
  }
}

bool is_plain_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

}  // namespace

TensorMap read_weights(const fs::path& file) {
  TensorMap tensors;
  try {
    const std::vector<std::byte> bytes = read_whole(file, kMaxFileBytes);
    run_isolated([&](Stream& stream) { parse(bytes, stream); },
                 [&](Stream& stream) { tensors = collect(stream); });
  } catch (const comm::Error& error) {
    if (error.code() == ExitCode::kInputMissing)
      comm::fail(ExitCode::kInputMissing, "weight file {} does not exist",
                 quote_text(file.native()));
    comm::fail(error.code(), "weight file {}: {}; expected HDF5 with one dataset a tensor",
               quote_text(file.native()), error.what());
  }
  if (tensors.empty())
    comm::fail(ExitCode::kData, "weight file {} holds no tensor", quote_text(file.native()));
  return tensors;
}

Weights open_weights(const fs::path& path, bool ema, comm::Communicator& comm,
                     const Notify& notify) {
  Weights weights;
  if (from_rank0(comm, is_plain_file(path) ? "file" : "folder") == "file") {
    run_agreed(comm, [&] { weights.tensors = read_weights(path); });
    weights.source = path.native();
    return weights;
  }
  const Checkpoint checkpoint = open_checkpoint(path, comm, notify);
  run_agreed(comm, [&] { weights.tensors = ema ? checkpoint.ema() : checkpoint.model(); });
  weights.source = checkpoint.folder().native();
  weights.meta = checkpoint.meta();
  return weights;
}

}  // namespace trainer
