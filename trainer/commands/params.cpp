// ridgeline params CONFIG
#include "trainer/commands/params.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "trainer/agree.h"
#include "trainer/commands/data_facts.h"
#include "trainer/commands/verbs.h"
#include "trainer/config/read.h"
#include "trainer/network.h"

namespace trainer {
namespace {

// Whether a constant share of the weight goes at each step.
bool shrinks_by_constant(const LedgerEntry& entry, const OptimizerConfig& optimizer) {
  return entry.gradient == 0 || !entry.trained || entry.mode == DecayMode::kDecoupled ||
         optimizer.name == OptimizerName::kSgd;
}

void add(GroupTotal& total, const ParameterRow& row) {
  ++total.tensors;
  total.elements += row.elements;
}

void run_params(const ConfigArguments& arguments, bool json, const CommandContext& context) {
  const LoadedConfig loaded = load_agreed_config(arguments, context.communicator);
  agree(context.communicator, [&] {
    if (!context.is_root()) return;
    for (const std::string& notice : loaded.notices) std::fprintf(stderr, "%s\n", notice.c_str());
    const Config& config = loaded.config;
    const DataFacts facts = data_facts(config);
    std::optional<double> steps_per_epoch;
    if (facts.num_images) {
      steps_per_epoch = static_cast<double>(*facts.num_images) / config.train.batch;
    } else {
      std::fprintf(stderr, "no epochs: %s\n", facts.absent.c_str());
    }
    const ParamsReport report = params_report(config, facts.num_classes, steps_per_epoch);
    std::fputs((json ? params_json(report) : params_text(report)).c_str(), stdout);
  });
}

}  // namespace

ParamsReport params_report(const Config& config, int num_classes,
                           std::optional<double> steps_per_epoch) {
  const auto model = configured_model(config, num_classes);
  const models::Plan plan = make_plan(
      *model, micro_batch_shape(config, config.data.size[0], num_channels(config.data.format)), {});
  ParamsReport report{config.name, config.optimizer.lr};
  report.total.group = "total";
  const std::vector<LedgerEntry> ledger = make_ledger(*plan.layout, config.regularization);
  for (const models::Parameter& parameter : plan.graph->parameters()) {
    const LedgerEntry& entry =
        ledger[static_cast<std::size_t>(plan.layout->by_name.at(parameter.name))];
    ParameterRow row{entry, entry.parameter.shape.count()};
    if (shrinks_by_constant(entry, config.optimizer)) {
      row.shrink =
          shrink_per_step(entry, config.optimizer, config.regularization, config.optimizer.lr);
      const double steps = half_life_steps(*row.shrink);
      if (steps > 0) row.half_life_steps = steps;
      if (steps > 0 && steps_per_epoch) row.half_life_epochs = steps / *steps_per_epoch;
    }
    auto group = std::find_if(report.groups.begin(), report.groups.end(),
                              [&](const GroupTotal& g) { return g.group == entry.group; });
    if (group == report.groups.end()) {
      group = report.groups.insert(group, GroupTotal{entry.group});
    }
    add(*group, row);
    add(report.total, row);
    report.rows.push_back(std::move(row));
  }
  return report;
}

void add_params(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand("params", "the ledger: what decays each parameter by how much");
  verb->footer(
      "Example: ridgeline params configs/retinanet_r18_fpn_shapes.yaml "
      "regularization.l2=1e-3");
  auto arguments = std::make_shared<ConfigArguments>();
  auto json = std::make_shared<bool>(false);
  add_config_arguments(*verb, *arguments);
  verb->add_flag("--json", *json, "one JSON object on stdout");
  verb->callback([=, &context] { run_params(*arguments, *json, context); });
}

}  // namespace trainer
