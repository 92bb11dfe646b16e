#pragma once

#include <span>
#include <string>
#include <string_view>

namespace trainer {

// The word of `known` nearest to `word` by optimal string alignment distance (insertions,
// deletions, substitutions, swaps of neighbours), ignoring case; the first of equals. Empty when
// none is nearer than a third of the longer word's length (at least one edit is always near).
std::string did_you_mean(std::string_view word, std::span<const std::string> known);

}  // namespace trainer
