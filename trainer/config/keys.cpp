#include <fmt/format.h>

#include "trainer/config/load.h"
#include "trainer/config/schema.h"

namespace trainer {
namespace {

const char* resume_text(KeyClass cls) {
  switch (cls) {
    case KeyClass::kIdentity:
      return "fixed on resume";
    case KeyClass::kSchedule:
      return "may change on resume, with a notice";
    case KeyClass::kRuntime:
      break;
  }
  return "";
}

// Two lines: "key: type, range, default ..." and its meaning.
template <typename S>
std::string describe(const Row<S>& row, const std::string& key, const std::string& cls) {
  static const S defaults{};
  const std::string range = limits_text(row.info.limits);
  const std::string value = !row.info.resolved.empty() ? row.info.resolved
                            : row.present(defaults)    ? row.print(defaults)
                                                       : "absent";
  std::string text = fmt::format("{}: {}{}, default {}\n    {}", key, row.type,
                                 range.empty() ? "" : " " + range, value, row.info.meaning);
  if (!row.info.applies.text.empty()) text += "; for " + row.info.applies.text;
  if (!cls.empty()) text += "; " + cls;
  return text + "\n";
}

}  // namespace

std::string keys_text() {
  std::string text =
      "_base_: list of text, default []\n"
      "    files that this one builds on, relative to it; maps are merged, all else replaced\n";
  for (const Row<Config>& row : schema()) text += describe(row, row.key, resume_text(row.info.cls));
  for (const Row<SplitConfig>& row : split_schema())
    text += describe(row, split_prefix() + "SPLIT." + row.key,
                     resume_text(split_class("train", row.key)));
  text += fmt::format(
      "{}: list of rules, default absent\n"
      "    the first rule that matches a parameter decides; absent: bias, norm, scale and fixed "
      "are not decayed; []: everything is; fixed on resume\n",
      rules_key());
  for (const Row<Rule>& row : rule_schema())
    text += describe(row, rules_key() + "[]." + row.key, "");
  return text;
}

}  // namespace trainer
