#include "trainer/commands/reg_check.h"

#include <gmock/gmock.h>

#include "tests/trainer/commands/command_fixture.h"
#include "trainer/commands/reg_expected.h"

namespace trainer {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int kClasses = 4;
using Overrides = std::vector<std::string>;

Overrides with(Overrides all, const std::string& more) {
  if (!more.empty()) all.push_back(more);
  return all;
}

class RegCheckModes : public testing::TestWithParam<Overrides> {};

TEST_P(RegCheckModes, UpdateDoesWhatTheLedgerSays) {
  const Config config = small_config(GetParam());
  const RegCheckReport report = reg_check(config, config, kClasses);
  EXPECT_TRUE(report.ok()) << reg_check_text(report);
  EXPECT_THAT(reg_check_text(report), HasSubstr("does what the ledger says"));
  EXPECT_GT(report.amplified, 1);
}

INSTANTIATE_TEST_SUITE_P(
    All, RegCheckModes,
    testing::Values(
        Overrides{}, Overrides{"regularization.mode=loss"},
        Overrides{"regularization.mode=loss", "clip.norm=1"},
        Overrides{"regularization.mode=decoupled", "regularization.decay_scale=schedule_only"},
        Overrides{"regularization.convention=full", "optimizer.nesterov=true"},
        Overrides{"regularization.l1=1e-4", "regularization.rules=[]"},
        Overrides{"optimizer.name=adam"}, Overrides{"optimizer.name=adamw"},
        Overrides{"optimizer.name=rmsprop", "regularization.l1=1e-5"},
        Overrides{"optimizer.name=adagrad"}, Overrides{"optimizer.name=lars"},
        Overrides{"model.trainable_stages=1", "ema.decay=0.9",
                  "regularization.rules=[{match: {name: \"head.*\"}, l2: 0.1, lr_scale: 3}]"}));

struct Lie {
  const char *claimed, *updated;
};
class RegCheckLies : public testing::TestWithParam<Lie> {};

// An update that decays otherwise than claimed, by whatever key, is found.
TEST_P(RegCheckLies, AreFound) {
  const Overrides base = {};
  const Config claimed = small_config(with(base, GetParam().claimed));
  const Config updated = small_config(with(base, GetParam().updated));
  const RegCheckReport report = reg_check(claimed, updated, kClasses);
  EXPECT_FALSE(report.ok()) << reg_check_text(report);
  EXPECT_THAT(reg_check_text(report), HasSubstr("NO"));
  EXPECT_THAT(reg_check_text(report), Not(HasSubstr("does what the ledger says")));
}

INSTANTIATE_TEST_SUITE_P(
    All, RegCheckLies,
    testing::Values(Lie{"", "regularization.convention=full"},
                    Lie{"", "regularization.l2=1.001e-4"}, Lie{"", "regularization.rules=[]"},
                    Lie{"", "regularization.l1=1e-6"},
                    Lie{"optimizer.nesterov=true", "optimizer.nesterov=false"},
                    Lie{"regularization.mode=decoupled", "regularization.l2=0"}));

TEST(RegCheck, ShowsCoefficientsOfEachGroup) {
  const Config config = small_config({"regularization.convention=full"});
  const RegCheckReport report = reg_check(config, config, kClasses);
  bool found = false;
  for (const RegRow& row : report.rows) {
    if (row.group != "decay" || row.quantity != "slope of the penalty, c") continue;
    found = true;
    EXPECT_DOUBLE_EQ(row.expected, 2e-4);
    EXPECT_NEAR(row.measured, 2e-4, 1e-8);
  }
  EXPECT_TRUE(found);
}

TEST(ExpectedUpdate, GradientOfThePenaltyByConvention) {
  LedgerEntry entry;
  entry.l2 = 0.1;
  const Config half = small_config();
  const Config full = small_config({"regularization.convention=full"});
  EXPECT_NEAR(ExpectedUpdate(half, 1).penalty_gradient(entry, 2.0), 0.2, 1e-9);
  EXPECT_NEAR(ExpectedUpdate(full, 1).penalty_gradient(entry, 2.0), 0.4, 1e-9);
  EXPECT_NEAR(ExpectedUpdate(half, 10).penalty_gradient(entry, -2.0), -2.0, 1e-9);
}

TEST(ExpectedUpdate, SgdByHand) {
  const Config config = small_config({"optimizer.lr=0.5"});
  LedgerEntry entry;
  entry.l2 = 0.1;
  entry.l1 = 0.2;
  const std::vector<float> w = {2.0f, -2.0f, 0.05f};
  const std::vector<double> after = ExpectedUpdate(config, 1).of(entry, w);
  EXPECT_NEAR(after[0], 2.0 - 0.5 * 0.2 - 0.5 * 0.2, 1e-9);
  EXPECT_NEAR(after[1], -after[0], 1e-9);
  EXPECT_EQ(after[2], 0);  // |w| below the threshold
}

}  // namespace
}  // namespace trainer
