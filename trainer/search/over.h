#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/report/chart.h"

namespace trainer {

// One --over: a configuration key and the values it takes.
struct Over {
  std::string key;
  std::vector<std::string> listed;  // KEY=A,B,C: as given; empty for a range
  double low = 0, high = 0;         // KEY=LOW..HIGH:SCALE[:COUNT]
  Scale scale = Scale::kLinear;
  int count = 0;         // values on a grid, ends included; 0: not given
  bool integer = false;  // the key takes whole numbers: values are rounded
};

// "regularization.l2=1e-6..1e-1:log:11" or "regularization.convention=half,full".
// Errors: kUsage with what is wrong and an example.
Over parse_over(const std::string& text);

// The values of a grid, ascending for a range, in the six digits that configuration, table and
// file all show; integers that round alike are one. REQUIRES: listed, or count >= 1.
std::vector<std::string> grid_values(const Over& over);

// The value at position u in [0, 1) of a range (uniform, or uniform in the logarithm), or of a
// list.
std::string value_at(const Over& over, double u);

// The number a value stands for; nothing when it is a word.
std::optional<double> as_number(const std::string& value);

// Whether a larger value of the key means a more regularised model.
bool is_regularizer(const std::string& key);

}  // namespace trainer
