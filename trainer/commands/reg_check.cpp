// ridgeline reg-check CONFIG
#include "trainer/commands/reg_check.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "comm/communicator_local.h"
#include "trainer/agree.h"
#include "trainer/commands/data_facts.h"
#include "trainer/commands/reg_expected.h"
#include "trainer/commands/verbs.h"
#include "trainer/config/read.h"
#include "trainer/device.h"
#include "trainer/network.h"
#include "trainer/optim/sharded_optimizer.h"
#include "trainer/report/text_table.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

using models::ParameterSlot;

// Of fp32 arithmetic: relative to the weight, and to its change.
constexpr double kWeightTolerance = 5e-7, kChangeTolerance = 1e-5;
constexpr double kCoefficientTolerance = 1e-4;  // of a derivative taken through fp32 weights

// Sums over one group of the ledger.
struct GroupSums {
  const LedgerEntry* entry = nullptr;
  double squares = 0;                 // sum w^2
  double expected = 0, measured = 0;  // sum (w - w') w
  double expected_zeros = 0, zeros = 0, elements = 0;
  double moved = 0;                    // largest |w - w'|
  double state = 0, state_weight = 0;  // least squares of the state on |w| or w^2
  bool ok = true;
};

bool near(double expected, double measured, double tolerance) {
  return std::abs(expected - measured) <= tolerance * std::max(std::abs(expected), 1e-30);
}

// One set of weights and an optimizer on it, both as in a run of one rank.
class Subject {
 public:
  Subject(const Config& config, int num_classes, comm::Device device)
      : config_(config), communicator_(comm::single_communicator()), stream_(device, 1) {
    const auto model = configured_model(config, num_classes);
    layout_ =
        make_plan(*model,
                  micro_batch_shape(config, config.data.size[0], num_channels(config.data.format)),
                  {})
            .layout;
    storage_ = std::make_unique<models::ParameterStorage>(layout_, device);
    initialize(*storage_, static_cast<std::uint64_t>(config.train.seed));
    parameters_ = HostMirror(storage_->parameters);
    gradients_ = HostMirror(storage_->gradients);
    parameters_.fetch(stream_);
    stream_.view().synchronize();
    avoid_zeros();
    parameters_.store(stream_);
    stream_.view().synchronize();
    const OptimizerSetup setup{config.optimizer, config.regularization, config.clip, config.ema};
    optimizer_ = std::make_unique<ShardedOptimizer>(*storage_, *communicator_, stream_, setup);
    optimizer_->start_ema();
  }

  const models::ParameterLayout& layout() const { return *layout_; }
  ShardedOptimizer& optimizer() { return *optimizer_; }
  std::span<float> weights(const ParameterSlot& slot) const {
    return part(parameters_, slot);
  }

  void scale_weights(double factor) {
    for (const ParameterSlot& slot : layout_->slots) {
      for (float& w : weights(slot)) w = static_cast<float>(w * factor);
    }
    parameters_.store(stream_);
  }

  // An update with zero gradients at a multiple of the learning rate and of every lambda.
  void update(double lr_factor, double lambda_factor) {
    std::ranges::fill(gradients_.as<float>(), 0.0f);
    for (const ParameterSlot& slot : layout_->slots) {  // a statistic that already is its own mean
      if (slot.parameter.kind != models::ParameterKind::kStatistic || slot.bucket < 0) continue;
      const std::span<float> w = weights(slot);
      std::copy(w.begin(), w.end(), part(gradients_, slot).begin());
    }
    gradients_.store(stream_);
    StepValues values;
    values.lr = config_.optimizer.lr * lr_factor;
    values.lr_factor = lr_factor;
    values.lambda_factor = lambda_factor;
    values.report = true;
    optimizer_->begin_step(values);
    for (std::size_t k = 0; k < layout_->buckets.size(); ++k) {
      optimizer_->bucket_ready(static_cast<int>(k));
    }
    optimizer_->finish_updates();
    optimizer_->finish();
    parameters_.fetch(stream_);
    stream_.view().synchronize();
  }

 private:
  static std::span<float> part(const HostMirror& values, const ParameterSlot& slot) {
    return values.as<float>().subspan(static_cast<std::size_t>(slot.offset),
                                      static_cast<std::size_t>(slot.size));
  }

  // Decay of a zero can't be seen; biases start as zeros.
  void avoid_zeros() {
    for (const ParameterSlot& slot : layout_->slots) {
      float sign = 1;
      for (float& w : weights(slot)) {
        if (w == 0.0f) w = 0.05f * (sign = -sign);
      }
    }
  }

  Config config_;
  std::unique_ptr<comm::Communicator> communicator_;
  comm::Stream stream_;
  std::shared_ptr<const models::ParameterLayout> layout_;
  std::unique_ptr<models::ParameterStorage> storage_;
  HostMirror parameters_, gradients_;
  std::unique_ptr<ShardedOptimizer> optimizer_;
};

bool moves(const LedgerEntry& entry) {
  return entry.trained && entry.parameter.kind != models::ParameterKind::kStatistic;
}

class RegCheck {
 public:
  RegCheck(const Config& claimed, const Config& updated, int num_classes, comm::Device device)
      : claimed_(claimed), updated_(updated), num_classes_(num_classes), device_(device) {}

  RegCheckReport run() {
    Subject subject(updated_, num_classes_, device_);
    ledger_ = make_ledger(subject.layout(), claimed_.regularization);
    report_.rule = to_string(claimed_.optimizer.name);
    report_.amplified = amplification(ledger_, claimed_);
    one_update(subject);
    penalties();
    for (const auto& [name, group] : groups_) add_rows(name, group);
    return std::move(report_);
  }

 private:
  void one_update(Subject& subject) {
    std::vector<std::vector<float>> before;
    ExpectedUpdate expected(claimed_, report_.amplified);
    const auto& slots = subject.layout().slots;
    for (std::size_t s = 0; s < slots.size(); ++s) {
      const std::span<float> w = subject.weights(slots[s]);
      before.emplace_back(w.begin(), w.end());
      if (moves(ledger_[s])) expected.count_norm(ledger_[s], w);
    }
    subject.update(1.0, report_.amplified);
    for (std::size_t s = 0; s < slots.size(); ++s) {
      GroupSums& group = groups_[ledger_[s].group];
      group.entry = &ledger_[s];
      std::vector<double> wanted(before[s].begin(), before[s].end());
      if (moves(ledger_[s])) wanted = expected.of(ledger_[s], before[s]);
      compare(before[s], wanted, subject.weights(slots[s]), group);
    }
    read_states(subject, before);
  }

  static void compare(std::span<const float> before, std::span<const double> wanted,
                      std::span<const float> after, GroupSums& group) {
    for (std::size_t i = 0; i < before.size(); ++i) {
      const double w = before[i], change = w - wanted[i];
      group.squares += w * w;
      group.expected += change * w;
      group.measured += (w - after[i]) * w;
      group.expected_zeros += wanted[i] == 0 ? 1 : 0;
      group.zeros += after[i] == 0.0f ? 1 : 0;
      group.elements += 1;
      group.moved = std::max(group.moved, std::abs(w - after[i]));
      group.ok =
          group.ok && std::abs(after[i] - wanted[i]) <=
                          kWeightTolerance * std::abs(w) + kChangeTolerance * std::abs(change);
    }
  }

  // Adaptive rules divide the decay away, but keep it in their state after one step:
  //   exp_avg = (1 - beta1) c w;   square_avg = (1 - alpha) c^2 w^2;   sum = c^2 w^2
  void read_states(Subject& subject, const std::vector<std::vector<float>>& before) {
    if (!adaptive(claimed_.optimizer.name)) return;
    const auto& by_name = subject.layout().by_name;
    subject.optimizer().for_each_state([&](const std::string& state, const std::string& tensor,
                                           std::int64_t begin, std::int64_t end,
                                           std::span<float> values) {
      if (state != first_state()) return;
      const auto s = static_cast<std::size_t>(by_name.at(tensor));
      GroupSums& group = groups_[ledger_[s].group];
      for (std::int64_t i = begin; i < end; ++i) {
        const double w = before[s][static_cast<std::size_t>(i)];
        const double basis = state == "exp_avg" ? w : w * w;
        group.state += values[static_cast<std::size_t>(i - begin)] * basis;
        group.state_weight += basis * basis;
      }
    });
  }
  std::string first_state() const { return state_names(claimed_.optimizer).front(); }

  double coefficient_in_state(const GroupSums& group) const {
    const OptimizerConfig& o = claimed_.optimizer;
    const double slope = group.state / group.state_weight;
    if (first_state() == "exp_avg") return slope / (1 - o.betas[0]) / report_.amplified;
    const double share = o.name == OptimizerName::kRmsprop ? 1 - o.alpha : 1.0;
    return std::sqrt(slope / share) / report_.amplified;
  }

  // d P / d(scale of w) = c sum w^2, by central differences of the penalty that training logs.
  void penalties() {
    constexpr double kStep = 1.0 / 64;
    for (const double sign : {1.0, -1.0}) {
      Subject subject(updated_, num_classes_, device_);
      subject.scale_weights(1 + sign * kStep);
      subject.update(0, 1);
      for (const GroupReport& group : subject.optimizer().report().groups) {
        slopes_[group.group] += sign * group.penalty / (2 * kStep);
      }
    }
  }

  void add_rows(const std::string& name, const GroupSums& group) {
    const LedgerEntry& entry = *group.entry;
    if (!moves(entry)) {
      report_.rows.push_back({name, "change", 0, group.moved, group.moved == 0});
      return;
    }
    const double slope = slopes_[name] / group.squares;
    report_.rows.push_back({name, "slope of the penalty, c", entry.gradient, slope,
                            near(entry.gradient, slope, kCoefficientTolerance)});
    if (adaptive(claimed_.optimizer.name) && entry.mode == DecayMode::kCoupled) {
      const double c = coefficient_in_state(group);
      report_.rows.push_back({name, "decay in the rule's state, c", entry.gradient, c,
                              near(entry.gradient, c, kCoefficientTolerance)});
    }
    report_.rows.push_back({name, "share removed", group.expected / group.squares,
                            group.measured / group.squares, group.ok});
    if (entry.l1 > 0) {
      report_.rows.push_back({name, "share of exact zeros", group.expected_zeros / group.elements,
                              group.zeros / group.elements, group.ok});
    }
  }

  const Config& claimed_;
  const Config& updated_;
  int num_classes_;
  comm::Device device_;
  std::vector<LedgerEntry> ledger_;
  std::map<std::string, GroupSums> groups_;
  std::map<std::string, double> slopes_;
  RegCheckReport report_;
};

void run_verb(const ConfigArguments& arguments, const CommandContext& context) {
  const Config config = load_agreed_config(arguments, context.communicator).config;
  const comm::Device device = choose_device(config.runtime, context.communicator);
  agree(context.communicator, [&] {
    if (!context.is_root()) return;
    const std::optional<int> known = configured_num_classes(config);
    const RegCheckReport report =
        reg_check(config, config, known ? *known : data_facts(config).num_classes, device);
    std::fputs(reg_check_text(report).c_str(), stdout);
    for (const RegRow& row : report.rows) {
      if (row.ok) continue;
      comm::fail(
          comm::ExitCode::kBug,
          "reg-check: group '{}': {}: the ledger says {:.9g}, the update did {:.9g}; this is "
          "a bug of this program: report it with the configuration",
          row.group, row.quantity, row.expected, row.measured);
    }
  });
}

}  // namespace

bool RegCheckReport::ok() const {
  return std::all_of(rows.begin(), rows.end(), [](const RegRow& row) { return row.ok; });
}

RegCheckReport reg_check(const Config& claimed, const Config& updated, int num_classes,
                         comm::Device device) {
  return RegCheck(claimed, updated, num_classes, device).run();
}

std::string reg_check_text(const RegCheckReport& report) {
  TextTable table(
      {{"group"}, {"quantity"}, {"ledger", Align::kRight}, {"update", Align::kRight}, {"ok"}});
  for (const RegRow& row : report.rows) {
    table.row({row.group, row.quantity, fmt::format("{:.6g}", row.expected),
               fmt::format("{:.6g}", row.measured), row.ok ? "yes" : "NO"});
  }
  return fmt::format(
             "One update by {} with zero gradients; every lambda times {:.6g}, so that decay "
             "stands clear of rounding.\n",
             report.rule, report.amplified) +
         table.text() + (report.ok() ? "the update does what the ledger says\n" : "");
}

void add_reg_check(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand(
      "reg-check", "by finite differences: the update decays by exactly what the ledger says");
  verb->footer(
      "Example: ridgeline reg-check configs/retinanet_r18_fpn_shapes.yaml "
      "regularization.mode=loss");
  auto arguments = std::make_shared<ConfigArguments>();
  add_config_arguments(*verb, *arguments);
  verb->callback([=, &context] { run_verb(*arguments, context); });
}

}  // namespace trainer
