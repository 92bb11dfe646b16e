#include "trainer/checkpoint/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/checkpoint/test_run.h"

namespace trainer {
namespace {

using testing::HasSubstr;

const std::vector<ConfigEntry> kSaved = {{"model.name", "retinanet", ConfigClass::kIdentity},
                                         {"optimizer.lr", "0.1", ConfigClass::kSchedule},
                                         {"runtime.threads", "2", ConfigClass::kRuntime},
                                         {"train.seed", "1", ConfigClass::kIdentity}};

std::vector<ConfigEntry> with(const std::string& key, const std::string& value) {
  std::vector<ConfigEntry> entries = kSaved;
  for (ConfigEntry& entry : entries)
    if (entry.key == key) entry.value = value;
  return entries;
}

TEST(Identity, EqualSettingsInAnyOrder) {
  std::vector<ConfigEntry> reversed(kSaved.rbegin(), kSaved.rend());
  EXPECT_TRUE(compare_config(kSaved, reversed).empty());
  std::vector<std::string> notes;
  require_same_identity(kSaved, reversed, [&](const std::string& text) { notes.push_back(text); });
  EXPECT_TRUE(notes.empty());
}

TEST(Identity, EverySingleChangeIsTreatedByItsClass) {
  for (const ConfigEntry& entry : kSaved) {
    const std::vector<ConfigEntry> now = with(entry.key, "other");
    const std::vector<ConfigDifference> differences = compare_config(kSaved, now);
    ASSERT_EQ(differences.size(), 1u);
    EXPECT_EQ(differences[0].key, entry.key);
    EXPECT_EQ(differences[0].saved, entry.value);
    EXPECT_EQ(differences[0].now, "other");
    std::vector<std::string> notes;
    std::string message;
    const comm::ExitCode code = code_of(
        [&] {
          require_same_identity(kSaved, now, [&](const std::string& s) { notes.push_back(s); });
        },
        &message);
    ASSERT_EQ(notes.size(), 1u);
    EXPECT_THAT(notes[0], HasSubstr(entry.key));
    const bool refused = entry.kind == ConfigClass::kIdentity;
    EXPECT_EQ(code, refused ? comm::ExitCode::kCheckpointRefused : comm::ExitCode::kDone);
    if (refused) {
      EXPECT_THAT(message, HasSubstr(entry.key + " \"" + entry.value + "\" -> \"other\""));
    }
    EXPECT_EQ(notes[0].find("bitwise") != std::string::npos, entry.kind == ConfigClass::kRuntime);
  }
}

TEST(Identity, KeysOfOneSideOnly) {
  std::vector<ConfigEntry> now = kSaved;
  now.erase(now.begin());
  now.push_back({"data.new", "x", ConfigClass::kIdentity});
  const std::vector<ConfigDifference> differences = compare_config(kSaved, now);
  ASSERT_EQ(differences.size(), 2u);
  EXPECT_EQ(differences[0].key, "data.new");
  EXPECT_EQ(differences[0].saved, "(absent)");
  EXPECT_EQ(differences[1].key, "model.name");
  EXPECT_EQ(differences[1].now, "(absent)");
}

TEST(Identity, AKeyThatAnOlderProgramDidNotKnow) {
  std::vector<ConfigEntry> now = kSaved;
  now.push_back({"data.new", "[]", ConfigClass::kIdentity, true});
  EXPECT_TRUE(compare_config(kSaved, now).empty());
  now.back().is_default = false;
  EXPECT_EQ(compare_config(kSaved, now).size(), 1u);
}

TEST(Identity, StricterClassCounts) {
  std::vector<ConfigEntry> now = with("optimizer.lr", "0.2");
  now[1].kind = ConfigClass::kIdentity;
  EXPECT_EQ(compare_config(kSaved, now)[0].kind, ConfigClass::kIdentity);
  EXPECT_EQ(compare_config(now, kSaved)[0].kind, ConfigClass::kIdentity);
}

TEST(Identity, TableIsAlignedAndEscaped) {
  const std::string table = difference_table(
      {{"train.seed", "1", "2", {}}, {"data.root", "a\x1b[2J", "(absent)", ConfigClass::kRuntime}});
  EXPECT_EQ(table,
            "key        | saved      | now\n"
            "train.seed | \"1\"        | \"2\"\n"
            "data.root  | \"a\\x1b[2J\" | (absent)\n");
}

}  // namespace
}  // namespace trainer
