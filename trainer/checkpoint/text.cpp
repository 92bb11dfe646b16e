#include "trainer/checkpoint/text.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <system_error>

namespace trainer {

std::string quote_text(std::string_view text) {
  constexpr std::size_t kLimit = 200;
  std::string out = "\"";
  for (const unsigned char c : text.substr(0, kLimit)) {
    if (c < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += static_cast<char>(c);
    }
  }
  if (text.size() > kLimit) out += "...";
  return out + '"';
}

std::string error_text(int error_number) { return std::generic_category().message(error_number); }

std::string random_id() {
  std::random_device device;
  const std::uint64_t high = device();
  return fmt::format("{:016x}", high << 32 | device());
}

}  // namespace trainer
