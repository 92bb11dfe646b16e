#pragma once

#include <string>
#include <vector>

#include "trainer/checkpoint/snapshot.h"

namespace trainer {

// A setting that is not what it was. A key that one side lacks has the value "(absent)" there;
// where the sides disagree about the class the stricter one counts. A key at its default that
// `saved` lacks is no difference: an older program did not know it.
struct ConfigDifference {
  std::string key;
  std::string saved;
  std::string now;
  ConfigClass kind = ConfigClass::kIdentity;
};

// In order of the keys.
std::vector<ConfigDifference> compare_config(const std::vector<ConfigEntry>& saved,
                                             const std::vector<ConfigEntry>& now);

// Lines "key | saved | now", columns aligned, with a heading.
std::string difference_table(const std::vector<ConfigDifference>& differences);

// Whether a run with settings `now` may continue from `saved`. Differences of schedule and runtime
// go to `notify`, one line each. Errors: kCheckpointRefused when an identity setting differs; the
// table goes to `notify` first, the message names the keys.
void require_same_identity(const std::vector<ConfigEntry>& saved,
                           const std::vector<ConfigEntry>& now, const Notify& notify);

}  // namespace trainer
