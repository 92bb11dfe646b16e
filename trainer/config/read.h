#pragma once

#include <string>
#include <vector>

#include "trainer/config/config.h"
#include "trainer/config/load.h"
#include "trainer/config/tree.h"

// The stages between the merged tree and the finished LoadedConfig.
namespace trainer {

// Fills `loaded.config` and the origins of the keys given, by the schema. Returns a line
// "place: key: what" for every unknown key and bad value.
std::vector<std::string> read_tree(const Node& root, LoadedConfig& loaded);

// Fills in the defaults that depend on other values, puts keys without effect back to their
// default with a notice, and gives every key that applies an origin. `stem` is the default name.
void resolve_defaults(const std::string& stem, LoadedConfig& loaded);

// What contradicts what, as lines "place: key: what".
std::vector<std::string> contradictions(const LoadedConfig& loaded);

// Its parts, a file each: the model against its data, and how it is trained.
std::vector<std::string> model_contradictions(const LoadedConfig& loaded);
std::vector<std::string> training_contradictions(const LoadedConfig& loaded);

// "place: key: what", place from the origins.
std::string problem(const Origins& origins, const std::string& key, const std::string& what);

// Input channels of an image of the format.
int num_channels(DataFormat format);

}  // namespace trainer
