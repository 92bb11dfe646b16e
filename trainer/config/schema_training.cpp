#include "trainer/config/schema.h"

namespace trainer {
namespace {

constexpr KeyClass kIdentity = KeyClass::kIdentity;
constexpr KeyClass kSchedule = KeyClass::kSchedule;

// One bit an optimizer, so that a row can list those that read it.
constexpr int kSgd = 1, kAdam = 2, kAdamw = 4, kAdagrad = 8, kRmsprop = 16, kLars = 32;

Applies optimizers(int bits) {
  std::string text;
  for (int i = 0; i < 6; ++i)
    if (bits >> i & 1)
      text += (text.empty() ? "" : ", ") + print_value(static_cast<OptimizerName>(i));
  return {text, [bits](const Config& c) { return bits >> static_cast<int>(c.optimizer.name) & 1; }};
}

Applies schedules(const std::string& text, ScheduleType a, ScheduleType b) {
  return {"type: " + text,
          [a, b](const Config& c) { return c.schedule.type == a || c.schedule.type == b; }};
}

bool any_decoupled(const Config& c) {
  bool any = c.regularization.mode == DecayMode::kDecoupled;
  for (const Rule& rule : c.regularization.rules.value_or(std::vector<Rule>{}))
    any = any || rule.mode == DecayMode::kDecoupled;
  return any;
}

std::vector<Row<Config>> optimizer_rows() {
  return {
      RIDGELINE_ROW(Config, optimizer.name, .cls = kIdentity, .meaning = "update rule"),
      RIDGELINE_ROW(Config, optimizer.lr, .cls = kIdentity,
                    .meaning = "learning rate, before the schedule",
                    .limits = {.low = 0, .high = 1e3}),
      RIDGELINE_ROW(Config, optimizer.momentum, .cls = kIdentity, .meaning = "as in PyTorch",
                    .limits = {.low = 0, .high = 0.9999},
                    .applies = optimizers(kSgd | kRmsprop | kLars)),
      RIDGELINE_ROW(Config, optimizer.nesterov, .cls = kIdentity,
                    .meaning = "look-ahead momentum, as in PyTorch", .applies = optimizers(kSgd)),
      RIDGELINE_ROW(Config, optimizer.betas, .cls = kIdentity,
                    .meaning = "decay of the first and second moment",
                    .limits = {.low = 0, .high = 0.999999, .min_items = 2, .max_items = 2},
                    .applies = optimizers(kAdam | kAdamw)),
      RIDGELINE_ROW(Config, optimizer.eps, .cls = kIdentity, .meaning = "added to the denominator",
                    .limits = {.low = 0, .high = 1},
                    .applies = optimizers(kAdam | kAdamw | kAdagrad | kRmsprop | kLars),
                    .resolved = "adagrad 1e-10, else 1e-08"),
      RIDGELINE_ROW(Config, optimizer.alpha, .cls = kIdentity,
                    .meaning = "decay of the squared gradient",
                    .limits = {.low = 0, .high = 0.999999}, .applies = optimizers(kRmsprop)),
      RIDGELINE_ROW(Config, optimizer.trust, .cls = kIdentity,
                    .meaning = "trust coefficient, eta of arXiv 1708.03888",
                    .limits = {.low = 0, .high = 1}, .applies = optimizers(kLars)),
  };
}

std::vector<Row<Config>> regularization_rows() {
  return {
      RIDGELINE_ROW(Config, regularization.l2, .cls = kIdentity,
                    .meaning = "lambda of the L2 penalty", .limits = {.low = 0, .high = 1e6}),
      RIDGELINE_ROW(Config, regularization.l1, .cls = kIdentity,
                    .meaning = "lambda of the L1 penalty, by proximal soft threshold",
                    .limits = {.low = 0, .high = 1e6}),
      RIDGELINE_ROW(Config, regularization.mode, .cls = kIdentity,
                    .meaning = "of L2: coupled (added to the gradient after clipping), decoupled "
                               "(beside the update), loss (in the loss, inside the clip norm)",
                    .resolved = "adamw decoupled, else coupled"),
      RIDGELINE_ROW(Config, regularization.convention, .cls = kIdentity,
                    .meaning = "half: l2/2 sum w^2, gradient l2 w (PyTorch); full: l2 sum w^2, "
                               "gradient 2 l2 w (Keras)"),
      RIDGELINE_ROW(Config, regularization.decay_scale, .cls = kIdentity,
                    .meaning = "decoupled decay is multiplied by the learning rate, or by the "
                               "schedule's factor only",
                    .applies = {"mode: decoupled", any_decoupled}, .strict = true),
      RIDGELINE_ROW(Config, regularization.schedule, .cls = kIdentity,
                    .meaning = "lambda over the run, from its value to end_factor times it"),
      RIDGELINE_ROW(Config, regularization.end_factor, .cls = kIdentity,
                    .meaning = "factor of lambda at the end of the run",
                    .limits = {.low = 0, .high = 1e3},
                    .applies = {"schedule: linear, cosine",
                                [](const Config& c) {
                                  return c.regularization.schedule != DecaySchedule::kConstant;
                                }}),
  };
}

std::vector<Row<Config>> schedule_rows() {
  using enum ScheduleType;
  return {
      RIDGELINE_ROW(Config, schedule.warmup_steps, .cls = kSchedule,
                    .meaning = "steps of linear warm-up", .limits = {.low = 0, .high = 1e12}),
      RIDGELINE_ROW(Config, schedule.warmup_factor, .cls = kSchedule,
                    .meaning = "of the learning rate at the first step",
                    .limits = {.low = 0, .high = 1}),
      RIDGELINE_ROW(Config, schedule.type, .cls = kSchedule,
                    .meaning = "learning rate over the run"),
      RIDGELINE_ROW(Config, schedule.milestones, .cls = kSchedule,
                    .meaning = "times gamma after each; in epochs with train.epochs, in steps "
                               "with train.steps",
                    .limits = {.low = 1, .high = 1e12}, .applies = schedules("step", kStep, kStep)),
      RIDGELINE_ROW(Config, schedule.gamma, .cls = kSchedule, .meaning = "factor at a milestone",
                    .limits = {.low = 0, .high = 1}, .applies = schedules("step", kStep, kStep)),
      RIDGELINE_ROW(Config, schedule.power, .cls = kSchedule, .meaning = "(1 - step / steps)^power",
                    .limits = {.low = 0, .high = 100}, .applies = schedules("poly", kPoly, kPoly)),
      RIDGELINE_ROW(Config, schedule.min_factor, .cls = kSchedule,
                    .meaning = "of the learning rate at the end", .limits = {.low = 0, .high = 1},
                    .applies = schedules("poly, cosine", kPoly, kCosine)),
  };
}

}  // namespace

std::vector<Row<Config>> training_rows() {
  std::vector<Row<Config>> rows = {
      RIDGELINE_ROW(Config, train.batch, .cls = kIdentity,
                    .meaning = "images a step, over all ranks", .limits = {.low = 1, .high = 1e6}),
      RIDGELINE_ROW(Config, train.micro_batch, .cls = kIdentity,
                    .meaning = "images a gradient unit; divides batch; never from the rank count",
                    .limits = {.low = 1, .high = 1e6},
                    .resolved = "batch / 8 if whole, else batch"),
      RIDGELINE_ROW(Config, train.epochs, .cls = kSchedule,
                    .meaning = "length of the run; this or train.steps",
                    .limits = {.low = 1, .high = 1e6}),
      RIDGELINE_ROW(Config, train.steps, .cls = kSchedule,
                    .meaning = "length of the run; this or train.epochs",
                    .limits = {.low = 1, .high = 1e12}),
      RIDGELINE_ROW(Config, train.seed, .cls = kIdentity, .meaning = "of everything random",
                    .limits = {.low = 0, .high = 9007199254740992.0}),
      RIDGELINE_ROW(Config, train.early_stop, .cls = kSchedule,
                    .meaning = "stop after so many evaluations in a row without a better "
                               "checkpoint.best; 0: off",
                    .limits = {.low = 0, .high = 1e6}),
  };
  for (auto* part : {&optimizer_rows, &regularization_rows, &schedule_rows})
    for (Row<Config>& row : part()) rows.push_back(std::move(row));
  rows.push_back(RIDGELINE_ROW(Config, clip.norm, .cls = kIdentity,
                               .meaning = "largest norm of the whole gradient; 0: off",
                               .limits = {.low = 0, .high = 1e12}));
  rows.push_back(RIDGELINE_ROW(Config, ema.decay, .cls = kIdentity,
                               .meaning = "of the moving average of the weights, a step; 0: off",
                               .limits = {.low = 0, .high = 0.999999}));
  return rows;
}

const std::vector<Row<Rule>>& rule_schema() {
  static const std::vector<Row<Rule>> rows = {
      RIDGELINE_ROW(Rule, match.name, .meaning = "glob over the parameter's name"),
      RIDGELINE_ROW(Rule, match.kind, .meaning = "kinds of parameter; empty: all"),
      RIDGELINE_ROW(Rule, match.module, .meaning = "glob over the module's name"),
      RIDGELINE_ROW(
          Rule, match.scale_invariant,
          .meaning = "whether a norm follows, so that scaling the weight changes nothing"),
      RIDGELINE_ROW(Rule, l2, .meaning = "instead of regularization.l2",
                    .limits = {.low = 0, .high = 1e6}),
      RIDGELINE_ROW(Rule, l1, .meaning = "instead of regularization.l1",
                    .limits = {.low = 0, .high = 1e6}),
      RIDGELINE_ROW(Rule, mode, .meaning = "instead of regularization.mode"),
      RIDGELINE_ROW(Rule, lr_scale, .meaning = "times the learning rate; 1 when absent",
                    .limits = {.low = 0, .high = 1e4}),
  };
  return rows;
}

}  // namespace trainer
