// Images a second of one thread: decode, letter-box, flip and normalise every image of a folder,
// read into memory before. Usage: decode_benchmark FOLDER [SIDE [full]]
// `full` decodes at the full size, without the DCT's reduction.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#include "comm/error.h"
#include "trainer/data/image.h"
#include "trainer/data/letterbox.h"

namespace {

using Clock = std::chrono::steady_clock;

void prepare(const trainer::EncodedImage& encoded, trainer::Size network, bool full,
             std::vector<float>& out) {
  const trainer::ImageInfo info = trainer::probe_image(encoded);
  trainer::Geometry geometry = trainer::fit_geometry({info.width, info.height}, network);
  geometry.flip = true;
  const trainer::Size needed = trainer::needed_size(geometry, !full);
  const auto shrunk = trainer::read_shrunk_image(encoded, needed.width, needed.height);
  trainer::letterbox(shrunk.image, geometry, network, {.shrink = shrunk.shrink}, out);
}

int run(const std::string& folder, int side, bool full) {
  std::vector<std::vector<std::uint8_t>> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(trainer::read_file_bytes(entry.path()));
  std::vector<float> out(std::size_t{3} * side * side);
  std::vector<double> best(files.size(), 1e9);
  for (int repetition = 0; repetition < 10; ++repetition)
    for (std::size_t i = 0; i < files.size(); ++i) {
      const auto start = Clock::now();
      prepare({files[i], folder}, {side, side}, full, out);
      best[i] = std::min(best[i], std::chrono::duration<double>(Clock::now() - start).count());
    }
  double seconds = 0;
  for (const double s : best) seconds += s;
  std::printf("%zu images, %d px, %s decode: %.0f images/s (best of 10 each)\n", files.size(), side,
              full ? "full" : "reduced", static_cast<double>(files.size()) / seconds);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: decode_benchmark FOLDER [SIDE [full]]\n");
    return 64;
  }
  try {
    return run(argv[1], argc > 2 ? std::stoi(argv[2]) : 256, argc > 3);
  } catch (const comm::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
