// Precision: which rank-4 values are stored in bf16. Chains of ops that work in bf16 stay so from
// end to end, with their gradients; what needs fp32 says so, and gets a copy where it reads bf16.
#include "models/graph/precision.h"

namespace models {

TypeRule::TypeRule(Precision precision, const Op& op, Type first)
    : rule_(precision == Precision::kBf16 ? op.precision() : PrecisionRule::kF32),
      first_(first == Type::kBF16 ? Type::kBF16 : Type::kF32) {}

Type TypeRule::of_input(Type stored) const {
  switch (rule_) {
    case PrecisionRule::kF32: return Type::kF32;
    case PrecisionRule::kReads: return stored;
    case PrecisionRule::kFollow: return first_;
    case PrecisionRule::kBf16: return Type::kBF16;
  }
  return stored;
}

Type TypeRule::of_outputs() const {
  switch (rule_) {
    case PrecisionRule::kF32:
    case PrecisionRule::kReads: return Type::kF32;
    case PrecisionRule::kFollow: return first_;
    case PrecisionRule::kBf16: return Type::kBF16;
  }
  return Type::kF32;
}

}  // namespace models
