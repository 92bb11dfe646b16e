#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace trainer {

// An empty folder, removed with the object.
class SearchFolder {
 public:
  SearchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "search.XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~SearchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  SearchFolder(const SearchFolder&) = delete;
  SearchFolder& operator=(const SearchFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace trainer
