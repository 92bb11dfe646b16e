#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace trainer {

// XXH3-128 of bytes that arrive in pieces, as 32 hexadecimal digits (what `xxh128sum` prints).
// Source: https://github.com/Cyan4973/xxHash
class Hasher {
 public:
  Hasher();
  ~Hasher();
  void add(std::span<const std::byte> bytes);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string digest_of(std::span<const std::byte> bytes);

}  // namespace trainer
