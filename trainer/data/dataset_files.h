#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/data/dataset.h"

// What the data formats share: names, folders, fingerprints. Internal to trainer/data.
namespace trainer {

// `path` under data.root, or itself when absolute.
std::string data_path(const DataConfig& config, const std::string& path);

// `name` below `folder`. Nothing if it is empty, absolute, has a NUL byte or a ".." component.
std::optional<std::string> path_below(const std::string& folder, std::string_view name);

// Which files exist, by one listing of each folder: on a network file system a stat of each of
// 100,000 images takes minutes.
class FolderIndex {
 public:
  bool contains(const std::string& path);

 private:
  std::map<std::string, std::set<std::string, std::less<>>, std::less<>> folders_;
};

// Names of the regular files (or folders) of a folder in byte order, hidden ones left out.
// Errors: 66 when it can't be listed.
std::vector<std::string> list_files(const std::string& folder);
std::vector<std::string> list_folders(const std::string& folder);

// Image files by their extension, the unsupported ones included so that they are named.
bool has_image_extension(std::string_view name);
std::string stem_of(std::string_view name);  // without folder and last extension

// Lines of a text file, without blanks at the ends and without empty lines. Errors: 66, 65 for a
// file beyond 256 MiB.
struct TextLine {
  std::int64_t number = 0;  // from 1
  std::string text;
};
std::vector<TextLine> read_lines(const std::string& path);

// XXH3-64 over a sequence of values; each is framed by its size.
class Fingerprint {
 public:
  Fingerprint();
  ~Fingerprint();
  Fingerprint(const Fingerprint&) = delete;
  Fingerprint& operator=(const Fingerprint&) = delete;

  void add(std::string_view bytes);
  void add(std::int64_t value);
  void add_file(const std::string& path);  // its bytes. Errors: 66, 74
  void add(const Sample& sample);          // name, ids, size, label and objects
  std::uint64_t value() const;

 private:
  void* state_;
};

// data.only applied to the classes of a classifier. Errors: 78 for a name that is none of them.
std::vector<std::string> kept_classes(const DataConfig& config, std::vector<std::string> names);

// Adds an annotated box to the sample after the repairs that the contract names, counting each.
// `box` is as annotated. REQUIRES: finite, not inverted; sample.width and height known.
void add_object(Sample& sample, Object object, AnomalyReport& anomalies);

}  // namespace trainer
