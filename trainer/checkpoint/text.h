#pragma once

#include <string>
#include <string_view>

namespace trainer {

// A value from a file or the file system as it may appear in a message: in double quotes, control
// bytes, quotes and backslashes escaped, at most 200 bytes of it.
std::string quote_text(std::string_view text);

// "No space left on device" for errno.
std::string error_text(int error_number);

// 16 random hexadecimal digits, for names of temporary files.
std::string random_id();

}  // namespace trainer
