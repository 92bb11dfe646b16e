#include "trainer/config/schema.h"

#include <iterator>

namespace trainer {

const std::vector<Row<Config>>& schema() {
  static const std::vector<Row<Config>> rows = [] {
    std::vector<Row<Config>> all;
    for (auto* part : {&model_rows, &data_rows, &training_rows, &runtime_rows}) {
      std::vector<Row<Config>> some = part();
      std::move(some.begin(), some.end(), std::back_inserter(all));
    }
    return all;
  }();
  return rows;
}

const std::string& split_prefix() {
  static const std::string prefix = "data.";
  return prefix;
}

const std::string& rules_key() {
  static const std::string key = "regularization.rules";
  return key;
}

KeyClass split_class(const std::string& split, const std::string& key) {
  // How many images train is a choice; which ones, the fingerprint of the data says.
  return split == "train" && key == "limit" ? KeyClass::kIdentity : KeyClass::kRuntime;
}

bool applies(const Row<Config>& row, const Config& config) {
  return !row.info.applies.test || row.info.applies.test(config);
}

}  // namespace trainer
