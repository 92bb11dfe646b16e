// ridgeline train CONFIG
#include <CLI/CLI.hpp>

#include "trainer/commands/verbs.h"
#include "trainer/training_run.h"

namespace trainer {

void add_train(CLI::App& app, const CommandContext& context) {
  auto* verb =
      app.add_subcommand("train", "train a model; continues by itself after an interruption");
  verb->footer(
      "Example: mpirun -np 8 ridgeline train configs/retinanet_r50_fpn_coco.yaml "
      "--init-backbone resnet50.h5 optimizer.lr=0.02");
  auto arguments = std::make_shared<ConfigArguments>();
  auto options = std::make_shared<TrainingOptions>();
  auto out = std::make_shared<std::string>();
  add_config_arguments(*verb, *arguments);
  verb->add_option("--out", *out, "run folder (default: runs/NAME)");
  verb->add_option("--init", options->init, "start from these weights: HDF5 file or checkpoint");
  verb->add_flag("--init-partial", options->init_partial,
                 "load what fits of --init, start the rest fresh");
  verb->add_option("--init-backbone", options->init_backbone,
                   "backbone weights: HDF5 by torchvision's classification names");
  verb->add_option(
      "--resume", options->resume,
      "auto | never | CHECKPOINT to begin from; started again, the run goes on from its own "
      "(default: auto)");
  verb->add_flag("--check", options->check,
                 "load everything, run one step, print memory and time, stop");
  verb->callback([=, &context] {
    const comm::StopSignals& signals = context.signals.emplace();
    const LoadedConfig config = load_agreed_config(*arguments, context.communicator);
    options->out = out->empty() ? std::string("runs/") + config.config.name : *out;
    TrainingRun(config, *options, context.communicator, context.progress, signals).run();
  });
}

}  // namespace trainer
