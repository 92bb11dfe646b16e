#pragma once

#include "models/graph/plan.h"

namespace models {

// How one node stores its rank-4 activations, by its op's PrecisionRule. A plan in fp32 has no
// other type.
class TypeRule {
 public:
  // `first`: what the node's first input is stored as.
  TypeRule(Precision precision, const Op& op, Type first);
  // What an activation that is stored as `stored` must become to be read.
  Type of_input(Type stored) const;
  Type of_outputs() const;

 private:
  PrecisionRule rule_;
  Type first_;
};

}  // namespace models
