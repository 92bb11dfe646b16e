#include "trainer/data/exif.h"

namespace trainer {
namespace {

constexpr unsigned kOrientationTag = 0x0112;
constexpr unsigned kShortType = 3;

class TiffReader {
 public:
  explicit TiffReader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {
    little_ = bytes.size() >= 2 && bytes[0] == 'I';
  }
  bool holds(std::size_t at, std::size_t count) const {
    return at <= bytes_.size() && bytes_.size() - at >= count;
  }
  unsigned u16(std::size_t at) const {
    const unsigned a = bytes_[at], b = bytes_[at + 1];
    return little_ ? a | b << 8 : a << 8 | b;
  }
  std::uint32_t u32(std::size_t at) const {
    const std::uint32_t a = u16(at), b = u16(at + 2);
    return little_ ? a | b << 16 : a << 16 | b;
  }

 private:
  std::span<const std::uint8_t> bytes_;
  bool little_ = false;
};

}  // namespace

Orientation parse_orientation(std::span<const std::uint8_t> tiff) {
  const TiffReader reader(tiff);
  if (!reader.holds(0, 8)) return {};
  const bool marked = (tiff[0] == 'I' && tiff[1] == 'I') || (tiff[0] == 'M' && tiff[1] == 'M');
  if (!marked || reader.u16(2) != 42) return {};
  const std::size_t directory = reader.u32(4);
  if (!reader.holds(directory, 2)) return {};
  const unsigned num_entries = reader.u16(directory);
  for (unsigned i = 0; i < num_entries; ++i) {
    const std::size_t entry = directory + 2 + std::size_t{12} * i;
    if (!reader.holds(entry, 12)) return {};
    if (reader.u16(entry) != kOrientationTag) continue;
    const unsigned value = reader.u16(entry + 8);
    const bool valid = reader.u16(entry + 2) == kShortType && reader.u32(entry + 4) == 1 &&
                       value >= 1 && value <= 8;
    return valid ? Orientation{static_cast<int>(value), false} : Orientation{1, true};
  }
  return {};
}

}  // namespace trainer
