#pragma once

#include <string>

#include "models/graph/value.h"

namespace models {

// What a parameter is to a regularization rule (INTERFACE: match.kind) and to the optimizer.
enum class ParameterKind : std::uint8_t {
  kWeight,     // convolution, transposed convolution, linear
  kBias,       // additive
  kNorm,       // gamma and beta of a normalisation
  kScale,      // learned per-channel scale (L2Norm)
  kFixed,      // never updated: bilinear kernels, frozen statistics
  kStatistic,  // running mean or variance: averaged over micro-batches, never decayed
  kCounter,    // num_batches_tracked: an int64 of the checkpoint, in no buffer
};
std::string to_string(ParameterKind kind);

// How a fresh parameter is filled; every draw is Philox keyed by (seed, parameter name, index).
struct Initializer {
  enum class Rule : std::uint8_t {
    kConstant,       // a
    kNormal,         // mean a, standard deviation b
    kUniform,        // [a, b)
    kKaimingNormal,  // std = sqrt(2 / fan), fan out (He et al. 2015), a = fan
    kBilinear,       // up-sampling kernel of a transposed convolution (Long et al. 2015)
  };
  Rule rule = Rule::kConstant;
  float a = 0.0f;
  float b = 0.0f;
};

// A named tensor of a model; names and shapes are torchvision's.
struct Parameter {
  std::string name;
  Shape shape;
  ParameterKind kind = ParameterKind::kWeight;
  Initializer initializer;
  bool trainable = true;  // false: in no gradient and no optimizer state
  bool scale_invariant =
      false;  // its convolution feeds a normalisation: decay acts on the step size
};

}  // namespace models
