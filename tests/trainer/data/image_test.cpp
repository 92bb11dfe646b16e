#include "trainer/data/image.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/trainer/data/image_fixtures.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using comm::ExitCode;
using fixture::Bytes;
using fixture::expect_error;

class ImageFiles : public ::testing::Test {
 protected:
  ImageFiles() {
    folder_ = fs::temp_directory_path() / ("ridgeline-image-" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  ~ImageFiles() override { fs::remove_all(folder_); }
  fs::path write(const std::string& name, const Bytes& bytes) {
    std::ofstream(folder_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return folder_ / name;
  }
  fs::path folder_;
};

Bytes bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

TEST_F(ImageFiles, BytesDecideNotNames) {
  const Image image{2, 1, {1, 2, 3, 4, 5, 6}};
  EXPECT_EQ(read_image(write("really_a_png.jpg", encode_png(image))).rgb, image.rgb);
  const Bytes jpeg = fixture::make_jpeg(fixture::blocks(1, 1, 3));
  const fs::path path = write("really_a_jpeg.png", jpeg);
  EXPECT_EQ(probe_image(path).format, ImageFormat::kJpeg);
  EXPECT_EQ(read_shrunk_image(path, 1, 1).shrink, 8);
  expect_error([&] { read_label_image(path); }, ExitCode::kData, {"JPEG", "PNG"});
}

TEST_F(ImageFiles, OtherFormatsAreNamed) {
  using std::string_literals::operator""s;
  const std::pair<std::string, std::string> kinds[] = {
      {"GIF89a...........", "a GIF"},
      {"RIFF\x10\0\0\0WEBPVP8 "s, "a WebP"},
      {"II*\0\x08\0\0\0"s, "a TIFF"},
      {"BM"s + std::string(60, '\0'), "a BMP"},
      {"\0\0\0\x20"
       "ftypavif\0\0\0\0"s,
       "an AVIF"},
      {"\0\0\0\x20"
       "ftypheic\0\0\0\0"s,
       "a HEIF"},
      {"P6\n2 2\n255\n", "a PNM"},
      {"version https://git-lfs.github.com/spec/v1\n", "Git LFS"},
      {"<!DOCTYPE html><html>", "HTML"},
      {"hello", "not an image"},
  };
  for (const auto& [bytes, name] : kinds) {
    const fs::path path = write("picture.jpg", bytes_of(bytes));
    expect_error([&] { read_image(path); }, ExitCode::kData, {"picture.jpg", name, "convert"});
    expect_error([&] { probe_image(path); }, ExitCode::kData, {name});
  }
  expect_error([&] { read_image(write("picture.jpg", {})); }, ExitCode::kData, {"empty"});
}

TEST_F(ImageFiles, MissingFilesAndFolders) {
  expect_error([&] { read_image(folder_ / "none.jpg"); }, ExitCode::kInputMissing, {"none.jpg"});
  expect_error([&] { read_image(folder_); }, ExitCode::kData, {"not a regular file"});
  expect_error(
      [&] {
        write_png(folder_ / "no" / "a.png", {1, 1, {0, 0, 0}});
      },
      ExitCode::kInputMissing, {"a.png"});
}

TEST_F(ImageFiles, ControlBytesOfNamesAreEscaped) {
  const fs::path path = folder_ / "a\n\x1b[31m.jpg";
  expect_error([&] { read_image(path); }, ExitCode::kInputMissing, {R"(a\n\x1b[31m.jpg)"});
  write(path.filename(), bytes_of("GIF89a"));
  expect_error([&] { read_image(path); }, ExitCode::kData, {R"(a\n\x1b[31m.jpg)"});
}

TEST_F(ImageFiles, WritesAndReadsBack) {
  const Image image{3, 2, fixture::gradient(3, 2, 3).values};
  write_png(folder_ / "image.png", image);
  EXPECT_EQ(read_image(folder_ / "image.png").rgb, image.rgb);
  const LabelImage labels{3, 1, {0, 20, 255}};
  write_label_png(folder_ / "labels.png", labels, voc_palette());
  EXPECT_EQ(read_label_image(folder_ / "labels.png").pixels, labels.pixels);
}

TEST(VocPalette, KnownColours) {
  const auto same = [](Rgb a, Rgb b) { return a.r == b.r && a.g == b.g && a.b == b.b; };
  const auto& p = voc_palette();
  ASSERT_EQ(p.size(), 256u);
  EXPECT_TRUE(same(p[0], {0, 0, 0}));
  EXPECT_TRUE(same(p[1], {128, 0, 0}));        // aeroplane
  EXPECT_TRUE(same(p[15], {192, 128, 128}));   // person
  EXPECT_TRUE(same(p[20], {0, 64, 128}));      // monitor
  EXPECT_TRUE(same(p[255], {224, 224, 192}));  // void
}

TEST(RealImages, EverySetDecodes) {
  const char* root = std::getenv("RIDGELINE_DATA");
  const fs::path data = root != nullptr ? root : RIDGELINE_SOURCE_DIR "/../shared/data";
  if (!fs::exists(data / "bccd")) GTEST_SKIP() << "no data in " << data << "; set RIDGELINE_DATA";
  int num_images = 0;
  for (const char* folder : {"bccd/JPEGImages", "coco_mini/images", "nuclei/images"}) {
    for (const auto& entry : fs::directory_iterator(data / folder)) {
      const ImageInfo info = probe_image(entry.path());
      const Image image = read_image(entry.path());
      ASSERT_EQ(image.width, info.width) << entry.path();
      ASSERT_EQ(image.height, info.height) << entry.path();
      if (++num_images % 100 == 0) break;
    }
  }
  EXPECT_GE(num_images, 200);
  expect_error([&] { read_image(data / "pets3/odd/Abyssinian_34.jpg"); }, ExitCode::kData,
               {"a GIF"});
}

}  // namespace
}  // namespace trainer
