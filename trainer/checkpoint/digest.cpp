#include "trainer/checkpoint/digest.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "comm/error.h"

namespace trainer {
namespace {

std::string hex_of(XXH128_hash_t hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

struct Hasher::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
  REQUIRE(state_->xxh != nullptr && XXH3_128bits_reset(state_->xxh) == XXH_OK, "xxHash state");
}

Hasher::~Hasher() = default;

void Hasher::add(std::span<const std::byte> bytes) {
  REQUIRE(XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size()) == XXH_OK, "xxHash update");
}

std::string Hasher::hex() const { return hex_of(XXH3_128bits_digest(state_->xxh)); }

std::string digest_of(std::span<const std::byte> bytes) {
  return hex_of(XXH3_128bits(bytes.data(), bytes.size()));
}

}  // namespace trainer
