#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "comm/error.h"
#include "trainer/data/dataset.h"
#include "trainer/data/image.h"

namespace trainer {

// A folder of its own for one test, removed with the object.
class TempData {
 public:
  TempData() {
    std::string pattern = (std::filesystem::temp_directory_path() / "ridgeline-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempData() { std::filesystem::remove_all(path_); }
  TempData(const TempData&) = delete;
  TempData& operator=(const TempData&) = delete;

  std::string path(const std::string& name = "") const { return (path_ / name).string(); }
  void write(const std::string& name, std::string_view text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  // A picture of one colour that depends on `shade`.
  void write_image(const std::string& name, int width, int height, int shade = 100) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    Image image = {width, height, {}};
    image.rgb.assign(static_cast<std::size_t>(3 * width * height),
                     static_cast<std::uint8_t>(shade));
    write_png(path_ / name, image);
  }
  // Label image: the left half `left`, the right half `right`.
  void write_labels(const std::string& name, Size size, int left, int right) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    LabelImage labels = {size.width, size.height, {}};
    for (int y = 0; y < size.height; ++y)
      for (int x = 0; x < size.width; ++x)
        labels.pixels.push_back(static_cast<std::uint16_t>(2 * x < size.width ? left : right));
    write_label_png(path_ / name, labels, voc_palette());
  }
  DataConfig config(DataFormat format) const {
    DataConfig config;
    config.format = format;
    config.root = path_.string();
    config.size = {{32, 32}};
    return config;
  }

 private:
  std::filesystem::path path_;
};

// The exit code and message of what `function` throws; 0 if it does not.
struct Thrown {
  int code = 0;
  std::string message;
};
template <typename Function>
Thrown thrown_by(const Function& function) {
  try {
    function();
  } catch (const comm::Error& error) {
    return {static_cast<int>(error.code()), error.what()};
  }
  return {};
}

// The folder of real data sets, empty where there is none.
inline std::string real_data() {
  const char* given = std::getenv("RIDGELINE_DATA");
  const std::string path = given ? given : RIDGELINE_SOURCE_DIR "/../shared/data";
  return std::filesystem::is_directory(path) ? path : "";
}

}  // namespace trainer
