#include "trainer/data/dataset_files.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

namespace trainer {
namespace {

namespace fs = std::filesystem;

template <typename Keep>
std::vector<std::string> list(const std::string& folder, const Keep& keep) {
  std::error_code error;
  std::vector<std::string> names;
  fs::directory_iterator it(folder, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    std::string name = it->path().filename().string();
    std::error_code ignored;  // a dangling link is no regular file
    if (name.front() != '.' && keep(*it, ignored)) names.push_back(std::move(name));
  }
  if (error)
    comm::fail(comm::ExitCode::kInputMissing,
               "{}: the folder can't be listed: {}; check data.root and the split's paths",
               trainer::quoted(folder), error.message());
  std::ranges::sort(names);
  return names;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n\v\f";
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

}  // namespace

std::string data_path(const DataConfig& config, const std::string& path) {
  return (fs::path(config.root) / path).lexically_normal().string();
}

std::optional<std::string> path_below(const std::string& folder, std::string_view name) {
  if (name.empty() || name.front() == '/' || name.find('\0') != std::string_view::npos) return {};
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    if (name.substr(begin, end - begin) == "..") return {};
    begin = end + 1;
  }
  return (fs::path(folder) / name).lexically_normal().string();
}

bool FolderIndex::contains(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash);
  auto it = folders_.find(folder);
  if (it == folders_.end()) {
    it = folders_.emplace(folder, std::set<std::string, std::less<>>()).first;
    std::error_code error;
    for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
         entry.increment(error))
      it->second.insert(entry->path().filename().string());
  }
  return it->second.contains(std::string_view(path).substr(slash + 1));
}

std::vector<std::string> list_files(const std::string& folder) {
  return list(folder, [](const fs::directory_entry& entry, std::error_code& error) {
    return entry.is_regular_file(error);
  });
}

std::vector<std::string> list_folders(const std::string& folder) {
  return list(folder, [](const fs::directory_entry& entry, std::error_code& error) {
    return entry.is_directory(error);
  });
}

bool has_image_extension(std::string_view name) {
  static constexpr std::array<std::string_view, 12> kExtensions = {
      "jpg", "jpeg", "png", "gif", "bmp", "tif", "tiff", "webp", "ppm", "pgm", "jfif", "jpe"};
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return false;
  std::string extension(name.substr(dot + 1));
  for (char& c : extension)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return std::ranges::find(kExtensions, extension) != kExtensions.end();
}

std::string stem_of(std::string_view name) {
  name = name.substr(name.rfind('/') + 1);
  return std::string(name.substr(0, name.rfind('.')));
}

std::vector<TextLine> read_lines(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_file_bytes(path);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::vector<TextLine> lines;
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = trimmed(text.substr(begin, end - begin));
    ++number;
    if (!line.empty()) lines.push_back({number, std::string(line)});
    begin = end + 1;
  }
  return lines;
}

Fingerprint::Fingerprint() : state_(XXH3_createState()) {
  REQUIRE(state_ != nullptr, "no memory for a hash");
  XXH3_64bits_reset(static_cast<XXH3_state_t*>(state_));
}

Fingerprint::~Fingerprint() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

void Fingerprint::add(std::string_view bytes) {
  add(static_cast<std::int64_t>(bytes.size()));
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), bytes.data(), bytes.size());
}

void Fingerprint::add(std::int64_t value) {
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), &value, sizeof value);
}

void Fingerprint::add_file(const std::string& path) {
  constexpr std::size_t kChunkBytes = std::size_t{1} << 20;
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (!file)
    comm::fail(comm::ExitCode::kInputMissing, "{}: can't be opened: {}", trainer::quoted(path),
               std::strerror(errno));
  const std::unique_ptr<std::FILE, decltype([](std::FILE* f) { std::fclose(f); })> closed(file);
  std::error_code unknown;  // a pipe's
  add(static_cast<std::int64_t>(fs::file_size(path, unknown)));
  std::vector<char> chunk(kChunkBytes);
  while (const std::size_t size = std::fread(chunk.data(), 1, kChunkBytes, file))
    XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), chunk.data(), size);
  if (std::ferror(file))
    comm::fail(comm::ExitCode::kIo, "{}: can't be read: {}", trainer::quoted(path),
               std::strerror(errno));
}

void Fingerprint::add(const Sample& sample) {
  add(sample.name);
  if (!sample.label_file.empty()) {
    add(std::filesystem::path(sample.label_file).filename().string());
    std::error_code unreadable;  // told when the file is read
    add(static_cast<std::int64_t>(std::filesystem::file_size(sample.label_file, unreadable)));
  }
  for (const std::int64_t value :
       {sample.image_id, std::int64_t{sample.width}, std::int64_t{sample.height},
        std::int64_t{sample.label}, static_cast<std::int64_t>(sample.objects.size())})
    add(value);
  for (const Object& object : sample.objects) {
    add(object.category_id);
    add(std::int64_t{object.label});
    add(std::int64_t{object.crowd} + 2 * object.difficult);
    for (const double corner : object.box) add(std::bit_cast<std::int64_t>(corner));
  }
}

std::uint64_t Fingerprint::value() const {
  return XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state_));
}

std::vector<std::string> kept_classes(const DataConfig& config, std::vector<std::string> names) {
  for (const std::string& name : config.only)
    if (std::ranges::find(names, name) == names.end())
      comm::fail(comm::ExitCode::kConfig, "data.only: {} is no class of the data",
                 trainer::quoted(name));
  if (!config.only.empty())
    std::erase_if(names, [&](const std::string& name) {
      return std::ranges::find(config.only, name) == config.only.end();
    });
  return names;
}

void add_object(Sample& sample, Object object, AnomalyReport& anomalies) {
  // Coordinates of many files carry the rounding of x + width; that is not beyond the image.
  constexpr double kRounding = 1e-6;
  const Corners annotated = object.box;
  bool clipped = false;
  for (std::size_t i = 0; i < 4; ++i) {
    const double limit = i % 2 == 0 ? sample.width : sample.height;
    object.box[i] = std::clamp(annotated[i], 0.0, limit);
    clipped |= std::abs(object.box[i] - annotated[i]) > kRounding;
  }
  const auto text = [&] {
    return fmt::format("corners ({:.6g}, {:.6g}, {:.6g}, {:.6g}) in {}x{}", annotated[0],
                       annotated[1], annotated[2], annotated[3], sample.width, sample.height);
  };
  const std::string where = trainer::quoted(sample.name);
  const bool has_area = object.box[2] > object.box[0] && object.box[3] > object.box[1];
  if (object.crowd)
    anomalies.add(AnomalyKind::kCrowd, where, text());
  else if (!has_area)
    anomalies.add(AnomalyKind::kBoxWithoutArea, where, text());
  else if (clipped)
    anomalies.add(AnomalyKind::kBoxClipped, where, text());
  object.trained = has_area && !object.crowd;
  sample.objects.push_back(object);
}

}  // namespace trainer
