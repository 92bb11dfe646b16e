#include "trainer/search/definition.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "comm/error.h"
#include "trainer/config/tree.h"
#include "trainer/metric_identity.h"

namespace trainer {
namespace {

constexpr const char* kThreads = "threads: ";

std::string over_text(const Over& over) {
  if (!over.listed.empty()) return fmt::format("{}={}", over.key, fmt::join(over.listed, ","));
  return fmt::format("{}={}..{}:{}:{}", over.key, over.low, over.high,
                     over.scale == Scale::kLog ? "log" : "linear", over.count);
}

// Without the line of threads.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with(kThreads)) lines.push_back(line);
  }
  return lines;
}

}  // namespace

std::string definition_text(const SearchDefinition& definition, const Config& config,
                            const DataFingerprints& data, const Arithmetic& arithmetic) {
  std::string text;
  for (const Over& over : definition.overs) text += fmt::format("over: {}\n", over_text(over));
  text += fmt::format("strategy: {}\ntrials: {}\nfolds: {}\nseeds: {}\ngroup: {}\n",
                      strategy_name(definition.strategy), definition.num_draws, definition.folds,
                      definition.seeds, escape(definition.group));
  for (const KeyValue& key : key_values(config)) {
    const bool searched = std::any_of(definition.overs.begin(), definition.overs.end(),
                                      [&](const Over& over) { return over.key == key.key; });
    if (key.cls != KeyClass::kRuntime && !searched)
      text += fmt::format("{}: {}\n", key.key, key.value);
  }
  text += metric_identity(config, data.val);
  const bool cuda = arithmetic.device == comm::DeviceKind::kCuda;
  text += fmt::format("data (fingerprint): {:016x}\ndevice: {}, {}\n{}{}\n", data.train,
                      cuda ? "cuda" : "cpu", arithmetic.bf16 ? "bf16" : "fp32", kThreads,
                      arithmetic.threads);
  return text;
}

int threads_of_definition(const std::string& text) {
  const std::size_t at = text.rfind(kThreads);
  return at == std::string::npos ? 0 : std::atoi(text.c_str() + at + std::string(kThreads).size());
}

void require_same_definition(const std::string& saved, const std::string& current,
                             const std::string& folder) {
  const std::vector<std::string> there = lines_of(saved), here = lines_of(current);
  const auto line = [](const std::vector<std::string>& lines, std::size_t i) {
    return i < lines.size() ? quote(lines[i]) : std::string("nothing");
  };
  for (std::size_t i = 0; i < std::max(there.size(), here.size()); ++i) {
    if (line(there, i) == line(here, i)) continue;
    comm::fail(comm::ExitCode::kCheckpointRefused,
               "{} holds another search: there {}, here {}; choose another --out, or repeat the "
               "first command",
               quote(folder), line(there, i), line(here, i));
  }
}

}  // namespace trainer
