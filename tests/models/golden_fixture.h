#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/model.h"
#include "tests/models/golden_json.h"
#include "tests/models/ops/op_fixture.h"

// Models with formula weights and inputs, as tests/peers made the goldens
// (tests/goldens/README.md).
namespace models::testing {

// The retinanet that a golden's "case" describes, with torchvision's anchors.
ModelOptions retinanet_options(const std::string& backbone, int num_classes, NormKind norm,
                               int trainable_stages);
ModelOptions retinanet_options(const rapidjson::Value& golden_case);
BatchShape batch_shape(const rapidjson::Value& golden_case);

// Names and shapes of parameters, statistics and counters, as a state_dict has them.
std::map<std::string, std::string> state_dict(const Graph& graph);
// Elements that are parameters to PyTorch's count.
std::int64_t num_parameters(const Graph& graph);

// Parameters and statistics of the formula.
void fill_parameters(Program& program, std::uint64_t seed);
void fill_images(Program& program, const rapidjson::Value& golden_case);
void fill_targets(Program& program, const rapidjson::Value& golden_case);

}  // namespace models::testing
