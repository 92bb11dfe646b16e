#include <limits>
#include <stdexcept>

#include "trainer/eval/mask_rle.h"

// A number is written in groups of 5 bits, least significant first; bit 5 says that more follow,
// and bit 4 of the last group is the sign. Characters start at '0'. From the fourth run on, the
// number is the difference to the run before last (runs of one value vary slowly).

namespace trainer {
namespace {

constexpr int kBase = '0';
constexpr int kMoreBit = 0x20, kSignBit = 0x10, kDigitMask = 0x1f;
constexpr int kMaxShift = 35;  // 32 bits and a sign fit in 7 groups

}  // namespace

std::string rle_to_string(const Rle& mask) {
  std::string text;
  for (std::size_t run = 0; run < mask.counts.size(); ++run) {
    std::int64_t value = mask.counts[run];
    if (run > 2) value -= mask.counts[run - 2];
    bool more = true;
    while (more) {
      int digit = static_cast<int>(value & kDigitMask);
      value >>= 5;
      more = (digit & kSignBit) != 0 ? value != -1 : value != 0;
      if (more) digit |= kMoreBit;
      text += static_cast<char>(kBase + digit);
    }
  }
  return text;
}

Rle rle_from_string(std::string_view text, std::int64_t height, std::int64_t width) {
  std::vector<std::int64_t> counts;
  std::int64_t value = 0;
  int shift = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int digit = static_cast<unsigned char>(text[i]) - kBase;
    if (digit < 0 || digit > (kMoreBit | kDigitMask) || shift >= kMaxShift) {
      throw std::invalid_argument("RLE string is broken at character " + std::to_string(i));
    }
    value |= static_cast<std::int64_t>(digit & kDigitMask) << shift;
    shift += 5;
    if ((digit & kMoreBit) != 0) continue;
    if ((digit & kSignBit) != 0) value |= std::numeric_limits<std::int64_t>::max() << shift;
    const std::size_t run = counts.size();
    counts.push_back(run > 2 ? value + counts[run - 2] : value);
    value = 0;
    shift = 0;
  }
  if (shift != 0) throw std::invalid_argument("RLE string ends inside a number");
  return rle_from_counts(counts, height, width);
}

}  // namespace trainer
