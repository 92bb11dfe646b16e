#pragma once

#include <rapidjson/document.h>
#include <rapidjson/istreamwrapper.h>

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/graph/value.h"
#include "tests/goldens/formula.h"
#include "tests/goldens/path.h"

namespace models::testing {

// Parses tests/goldens/<name>. Throws when it is missing or malformed.
inline rapidjson::Document read_golden(const std::string& name) {
  std::ifstream file(goldens::path_of(name));
  rapidjson::IStreamWrapper stream(file);
  rapidjson::Document document;
  document.ParseStream(stream);
  if (document.HasParseError()) throw std::runtime_error("no golden " + name);
  return document;
}

inline std::vector<double> numbers(const rapidjson::Value& array) {
  std::vector<double> result;
  for (const auto& number : array.GetArray()) result.push_back(number.GetDouble());
  return result;
}

inline Shape shape_of(const rapidjson::Value& array) {
  Shape shape;
  for (const auto& extent : array.GetArray()) shape[shape.rank++] = extent.GetInt64();
  return shape;
}

inline goldens::Statistics golden_statistics(const rapidjson::Value& entry) {
  return goldens::read_statistics(numbers(entry));
}

// A tensor that a golden describes as {shape, formula: [center, scale]}.
inline std::vector<float> formula_values(std::uint64_t seed, const std::string& stream,
                                         const rapidjson::Value& input) {
  const auto formula = numbers(input["formula"]);
  return goldens::values(seed, stream, static_cast<std::size_t>(shape_of(input["shape"]).count()),
                         {static_cast<float>(formula[0]), static_cast<float>(formula[1])});
}

}  // namespace models::testing
