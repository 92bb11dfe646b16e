#include <fmt/format.h>

#include <algorithm>

#include "trainer/config/read.h"
#include "trainer/config/schema.h"
#include "trainer/config/suggest.h"

namespace trainer {
namespace {

// Metrics that evaluation writes, by the section of metrics.json.
std::vector<std::string> metrics_of(ModelName model) {
  if (model == ModelName::kFcn)
    return {"semantic/mIoU", "semantic/pixel_accuracy", "semantic/mean_accuracy",
            "semantic/fw_IoU"};
  if (model == ModelName::kRetinanet)
    return {"bbox/AP",   "bbox/AP50",  "bbox/AP75", "bbox/APs", "bbox/APm", "bbox/APl", "bbox/AR1",
            "bbox/AR10", "bbox/AR100", "bbox/ARs",  "bbox/ARm", "bbox/ARl", "voc/mAP50"};
  return {"classification/accuracy"};
}

class TrainingCheck {
 public:
  explicit TrainingCheck(const LoadedConfig& loaded) : loaded_(loaded), config_(loaded.config) {}

  std::vector<std::string> run() {
    check_length();
    check_optimizer();
    check_decay();
    check_schedule();
    check_evaluation();
    const std::string& name = config_.name;
    require(name.find('/') == std::string::npos && name.find_first_not_of('.') < name.size(),
            "name", "{} is no name of a folder", quote(name));
    return std::move(problems_);
  }

 private:
  template <typename... Args>
  void require(bool ok, const std::string& key, fmt::format_string<Args...> text, Args&&... args) {
    if (!ok)
      problems_.push_back(
          problem(loaded_.origins, key, fmt::format(text, std::forward<Args>(args)...)));
  }

  void check_length() {
    const TrainConfig& train = config_.train;
    require(train.epochs || train.steps, "train.epochs",
            "how long? give train.epochs or train.steps");
    require(!train.epochs || !train.steps, "train.steps",
            "both train.epochs and train.steps are given; keep one");
    if (train.batch % train.micro_batch == 0) return;
    std::string divisors;
    for (int i = 1; i <= train.batch && divisors.size() < 40; ++i)
      if (train.batch % i == 0) divisors += fmt::format("{}{}", divisors.empty() ? "" : ", ", i);
    require(false, "train.micro_batch", "{} does not divide train.batch {}; choose from {}",
            train.micro_batch, train.batch, divisors);
  }

  void check_optimizer() {
    const OptimizerConfig& optimizer = config_.optimizer;
    require(!optimizer.nesterov || optimizer.momentum > 0, "optimizer.nesterov",
            "needs optimizer.momentum > 0");
    const bool decoupled = config_.regularization.mode == DecayMode::kDecoupled;
    const bool adamw = optimizer.name == OptimizerName::kAdamw;
    require(!adamw || decoupled, "regularization.mode",
            "adamw is Adam with decoupled decay, got {}; drop the mode, or choose adam",
            to_string(config_.regularization.mode));
  }

  void check_decay() {
    const RegularizationConfig& regularization = config_.regularization;
    if (!regularization.rules) return;
    int index = -1;
    for (const Rule& rule : *regularization.rules) {
      ++index;
      if (config_.optimizer.name == OptimizerName::kAdamw && rule.mode &&
          rule.mode != DecayMode::kDecoupled)
        problems_.push_back(fmt::format("{}: {}[{}].mode: adamw decays decoupled, got {}",
                                        rule.origin, rules_key(), index, to_string(*rule.mode)));
    }
  }

  void check_schedule() {
    const ScheduleConfig& schedule = config_.schedule;
    const std::vector<int64_t>& stones = schedule.milestones;
    require(std::is_sorted(stones.begin(), stones.end(), std::less_equal<int64_t>()),
            "schedule.milestones", "must increase: {}", print_value(stones));
    require(schedule.type != ScheduleType::kStep || !stones.empty(), "schedule.type",
            "step needs schedule.milestones, as in [16, 22]");
  }

  void check_evaluation() {
    const std::string& best = config_.checkpoint.best;
    const std::vector<std::string> known = metrics_of(config_.model.name);
    const std::string near = did_you_mean(best, known);
    require(best.empty() || std::count(known.begin(), known.end(), best), "checkpoint.best",
            "{} is no metric of {}; {}", quote(best), to_string(config_.model.name),
            near.empty() ? "they are " + print_value(known) : "did you mean '" + near + "'");
    require(config_.eval.weights == EvalWeights::kRaw || config_.ema.decay > 0, "eval.weights",
            "ema needs ema.decay > 0");
    const bool evaluates = (config_.eval.every_epochs > 0 || config_.eval.every_steps > 0) &&
                           config_.data.splits.contains("val");
    require(config_.train.early_stop == 0 || (evaluates && !best.empty()), "train.early_stop",
            "needs data.val, eval.every_epochs or eval.every_steps, and checkpoint.best");
    const RuntimeConfig& runtime = config_.runtime;
    require(runtime.device != DeviceChoice::kCpu || runtime.precision != Precision::kBf16,
            "runtime.precision", "bf16 is for CUDA; the CPU computes in fp32");
  }

  const LoadedConfig& loaded_;
  const Config& config_;
  std::vector<std::string> problems_;
};

}  // namespace

std::vector<std::string> training_contradictions(const LoadedConfig& loaded) {
  return TrainingCheck(loaded).run();
}

std::vector<std::string> contradictions(const LoadedConfig& loaded) {
  std::vector<std::string> all;
  const Config defaults;
  for (const Row<Config>& row : schema())
    if (!applies(row, loaded.config) && row.print(loaded.config) != row.print(defaults))
      all.push_back(problem(loaded.origins, row.key,
                            fmt::format("is for {} only; remove it or set it to {}",
                                        row.info.applies.text, row.print(defaults))));
  for (auto* part : {&model_contradictions, &training_contradictions})
    for (std::string& line : part(loaded)) all.push_back(std::move(line));
  return all;
}

}  // namespace trainer
