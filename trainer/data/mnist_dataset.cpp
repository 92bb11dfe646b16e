#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

#include "trainer/data/stored_dataset.h"

namespace trainer {
namespace {

constexpr std::int64_t kMaxIdxBytes = std::int64_t{1} << 31;

// A whole file, unpacked when it is gzip (zlib passes other files through).
std::vector<std::uint8_t> read_gzip(const std::string& path) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file)
    comm::fail(comm::ExitCode::kInputMissing, "{}: can't be opened", trainer::quoted(path));
  std::vector<std::uint8_t> bytes;
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  for (;;) {
    const std::size_t size = bytes.size();
    if (static_cast<std::int64_t>(size) > kMaxIdxBytes)
      comm::fail(comm::ExitCode::kData, "{}: beyond 2 GiB unpacked", trainer::quoted(path));
    bytes.resize(size + kChunk);
    const int got = gzread(file.get(), bytes.data() + size, kChunk);
    bytes.resize(size + static_cast<std::size_t>(std::max(got, 0)));
    if (got <= 0) break;
  }
  int status = Z_OK;
  const char* message = gzerror(file.get(), &status);
  if (status != Z_OK && status != Z_STREAM_END)
    comm::fail(comm::ExitCode::kData, "{}: {}; fetch the file again", trainer::quoted(path),
               message);
  return bytes;
}

// An IDX file of unsigned bytes: 0, 0, type 8, rank; sizes as big-endian 32 bit; the values.
struct Idx {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> bytes;
  std::size_t offset = 0;  // of the values
};

Idx read_idx(const std::string& path, std::size_t rank) {
  Idx idx;
  idx.bytes = read_gzip(path);
  const auto& b = idx.bytes;
  idx.offset = 4 + 4 * rank;
  if (b.size() < idx.offset || b[0] != 0 || b[1] != 0 || b[2] != 8 || b[3] != rank)
    comm::fail(comm::ExitCode::kData, "{}: no IDX file of bytes with {} dimensions",
               trainer::quoted(path), rank);
  std::int64_t num_values = 1;
  for (std::size_t i = 4; i < idx.offset; i += 4) {
    const std::int64_t size = std::int64_t{b[i]} << 24 | b[i + 1] << 16 | b[i + 2] << 8 | b[i + 3];
    idx.shape.push_back(size);
    num_values = std::min(num_values * size, kMaxIdxBytes + 1);
  }
  if (static_cast<std::int64_t>(b.size() - idx.offset) != num_values)
    comm::fail(comm::ExitCode::kData, "{}: {} bytes of values, the header says {}",
               trainer::quoted(path), b.size() - idx.offset, num_values);
  return idx;
}

// The IDX files of MNIST and its relatives, gray images with a class each.
class MnistDataset : public StoredDataset {
 public:
  explicit MnistDataset(const FormatInput& input);

  int channels() const override { return 1; }
  ShrunkImage image(std::int64_t index, const NeededSize&) const override;

 private:
  void add_digits(const FormatInput& input, const Idx& labels);

  Idx images_;
  std::vector<std::int64_t> rows_;  // in the file, of each sample
};

// `given`, else the usual name under data.root, with or without .gz.
std::string idx_path(const FormatInput& input, const std::string& given, const char* kind) {
  if (!given.empty()) return data_path(input.config, given);
  const std::string name = (input.split_name == "train" ? "train-" : "t10k-") + std::string(kind);
  const std::string plain = data_path(input.config, name);
  return std::filesystem::exists(plain) ? plain : plain + ".gz";
}

MnistDataset::MnistDataset(const FormatInput& input) {
  source_ = idx_path(input, input.split.images, "images-idx3-ubyte");
  const std::string label_path = idx_path(input, input.split.labels, "labels-idx1-ubyte");
  images_ = read_idx(source_, 3);
  const Idx labels = read_idx(label_path, 1);
  if (images_.shape[0] != labels.shape[0])
    comm::fail(comm::ExitCode::kData, "{} has {} images, {} has {} labels", source_,
               images_.shape[0], label_path, labels.shape[0]);
  if (images_.shape[1] < 1 || images_.shape[2] < 1 || images_.shape[1] > kMaxImageSide ||
      images_.shape[2] > kMaxImageSide)
    comm::fail(comm::ExitCode::kData, "{}: images of {}x{} pixels", source_, images_.shape[2],
               images_.shape[1]);
  add_digits(input, labels);
  Fingerprint hash;
  hash.add(
      std::string_view(reinterpret_cast<const char*>(images_.bytes.data()), images_.bytes.size()));
  for (const std::string& name : class_names_) hash.add(name);
  for (const Sample& sample : samples_) hash.add(sample);
  fingerprint_ = hash.value();
}

void MnistDataset::add_digits(const FormatInput& input, const Idx& labels) {
  constexpr int kDigits = 10;
  std::vector<std::string> all = input.config.classes;
  for (int k = 0; input.config.classes.empty() && k < kDigits; ++k)
    all.push_back(std::to_string(k));
  const std::vector<std::string> kept = kept_classes(input.config, all);
  std::map<int, int> label_of_digit;  // those that are kept, numbered anew
  for (std::size_t k = 0; k < kept.size(); ++k)
    label_of_digit[static_cast<int>(std::ranges::find(all, kept[k]) - all.begin())] =
        static_cast<int>(k);
  number_classes(kept, false);
  for (std::int64_t i = 0; i < labels.shape[0]; ++i) {
    if (input.split.limit && size() >= *input.split.limit) break;
    const int digit = labels.bytes[labels.offset + static_cast<std::size_t>(i)];
    if (digit >= static_cast<int>(all.size())) {
      anomalies_.add(AnomalyKind::kUnknownId, fmt::format("image {}", i),
                     fmt::format("label {} of {} classes", digit, all.size()));
      continue;
    }
    const auto label = label_of_digit.find(digit);
    if (label == label_of_digit.end()) continue;
    Sample sample;
    sample.name = fmt::format("{}[{}]", input.split_name, i);
    sample.width = static_cast<int>(images_.shape[2]);
    sample.height = static_cast<int>(images_.shape[1]);
    sample.label = label->second;
    add_sample(std::move(sample));
    rows_.push_back(i);
  }
}

ShrunkImage MnistDataset::image(std::int64_t index, const NeededSize& needed) const {
  const Sample& sample = this->sample(index);
  if (needed) needed({.width = sample.width, .height = sample.height});
  ShrunkImage result;
  result.info.width = result.image.width = sample.width;
  result.info.height = result.image.height = sample.height;
  const auto plane =
      static_cast<std::size_t>(sample.width) * static_cast<std::size_t>(sample.height);
  const std::uint8_t* gray =
      images_.bytes.data() + images_.offset +
      static_cast<std::size_t>(rows_[static_cast<std::size_t>(index)]) * plane;
  result.image.rgb.reserve(plane * 3);
  for (std::size_t i = 0; i < plane; ++i)
    result.image.rgb.insert(result.image.rgb.end(), 3, gray[i]);
  return result;
}

}  // namespace

std::unique_ptr<Dataset> open_mnist(const FormatInput& input) {
  return std::make_unique<MnistDataset>(input);
}

}  // namespace trainer
