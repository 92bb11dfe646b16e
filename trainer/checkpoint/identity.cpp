#include "trainer/checkpoint/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "comm/error.h"
#include "trainer/checkpoint/text.h"

namespace trainer {
namespace {

constexpr const char* kAbsent = "(absent)";

std::string show(const std::string& value) { return value == kAbsent ? value : quote_text(value); }

}  // namespace

std::vector<ConfigDifference> compare_config(const std::vector<ConfigEntry>& saved,
                                             const std::vector<ConfigEntry>& now) {
  std::map<std::string, ConfigDifference> all;
  for (const ConfigEntry& entry : saved)
    all[entry.key] = {entry.key, entry.value, kAbsent, entry.kind};
  for (const ConfigEntry& entry : now) {
    if (entry.is_default && !all.contains(entry.key)) continue;
    auto [found, is_new] =
        all.try_emplace(entry.key, ConfigDifference{entry.key, kAbsent, entry.value, entry.kind});
    found->second.now = entry.value;
    found->second.kind = std::min(found->second.kind, entry.kind);  // strictest first
  }
  std::vector<ConfigDifference> differences;
  for (auto& [key, difference] : all)
    if (difference.saved != difference.now) differences.push_back(std::move(difference));
  return differences;
}

std::string difference_table(const std::vector<ConfigDifference>& differences) {
  std::size_t key_width = 3;
  std::size_t saved_width = 5;
  for (const ConfigDifference& d : differences) {
    key_width = std::max(key_width, d.key.size());
    saved_width = std::max(saved_width, show(d.saved).size());
  }
  std::string table =
      fmt::format("{:<{}} | {:<{}} | now\n", "key", key_width, "saved", saved_width);
  for (const ConfigDifference& d : differences)
    table += fmt::format("{:<{}} | {:<{}} | {}\n", d.key, key_width, show(d.saved), saved_width,
                         show(d.now));
  return table;
}

void require_same_identity(const std::vector<ConfigEntry>& saved,
                           const std::vector<ConfigEntry>& now, const Notify& notify) {
  std::vector<ConfigDifference> refused;
  for (ConfigDifference& d : compare_config(saved, now)) {
    if (d.kind == ConfigClass::kIdentity) {
      refused.push_back(std::move(d));
    } else if (notify) {
      notify(fmt::format("{}: {} -> {}{}", d.key, show(d.saved), show(d.now),
                         d.kind == ConfigClass::kRuntime ? " (may cost bitwise equality)" : ""));
    }
  }
  if (refused.empty()) return;
  if (notify) notify(difference_table(refused));
  std::string keys;
  for (const ConfigDifference& d : refused)
    keys +=
        fmt::format("{}{} {} -> {}", keys.empty() ? "" : "; ", d.key, show(d.saved), show(d.now));
  comm::fail(comm::ExitCode::kCheckpointRefused,
             "the checkpoint belongs to another run: {}; restore the saved values or start a new "
             "run with another --out",
             keys);
}

}  // namespace trainer
