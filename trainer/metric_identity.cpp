#include "trainer/metric_identity.h"

#include <fmt/format.h>

namespace trainer {

std::string metric_identity(const Config& config, std::uint64_t val_fingerprint) {
  std::string lines = fmt::format("metric: {}\nval (fingerprint): {:016x}\n",
                                  config.checkpoint.best, val_fingerprint);
  for (const KeyValue& key : key_values(config)) {
    if (key.key.starts_with("eval.") && !key.key.starts_with("eval.every_"))
      lines += fmt::format("{}: {}\n", key.key, key.value);
  }
  return lines;
}

}  // namespace trainer
