// ridgeline eval CONFIG --checkpoint PATH
#include <omp.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>

#include "comm/threads.h"
#include "trainer/agree.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/commands/overwrite.h"
#include "trainer/commands/score.h"
#include "trainer/commands/verbs.h"
#include "trainer/device.h"
#include "trainer/evaluation.h"
#include "trainer/feed.h"
#include "trainer/report/append_file.h"
#include "trainer/tasks/label_maps.h"
#include "trainer/trained_with.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

struct EvalOptions {
  ConfigArguments config;
  std::string checkpoint, split = "val", out;
};

// Label maps of an earlier evaluation, perhaps of other images, are not among this one's.
void clear_output(const std::filesystem::path& out, const std::filesystem::path& label_maps,
                  const Dataset& dataset) {
  std::vector<std::string> inputs = {dataset.source()};
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    inputs.push_back(dataset.sample(i).file);
    inputs.push_back(dataset.sample(i).label_file);
  }
  std::vector<std::filesystem::path> old;
  if (!label_maps.empty()) old = png_files(label_maps);
  auto outputs = old;
  for (const char* name : {"metrics.json", "detections.json", "predictions.png"})
    outputs.push_back(out / name);
  refuse_to_overwrite(inputs, outputs);
  std::error_code none;
  for (const auto& file : old) std::filesystem::remove(file, none);
}

void run_eval(const EvalOptions& options, const CommandContext& context) {
  const Config config = load_agreed_config(options.config, context.communicator).config;
  const int threads = config.runtime.threads > 0 ? config.runtime.threads
                                                 : comm::default_threads(context.communicator);
  omp_set_num_threads(threads);
  const comm::Device device = choose_device(config.runtime, context.communicator);
  std::optional<comm::Stream> stream;
  std::unique_ptr<Dataset> dataset;
  std::unique_ptr<Network> network;
  agree(context.communicator, [&] {
    stream.emplace(device, threads);
    OpenOptions open{options.split, fields_of(config.model.name),
                     config.model.num_classes.value_or(0)};
    dataset = open_dataset(config.data, open);
    network =
        std::make_unique<Network>(config, num_classes_for(config, *dataset), dataset->channels(),
                                  *stream, NetworkOptions{context.communicator.size(), false});
  });
  const auto notify = [&](const std::string& line) {
    if (context.is_root()) std::fprintf(stderr, "%s\n", line.c_str());
  };
  const Weights weights = open_weights(options.checkpoint, config.eval.weights == EvalWeights::kEma,
                                       context.communicator, notify);
  agree(context.communicator, [&] {
    load_weights(network->storage(), weights.tensors, {.source = weights.source});
    if (!weights.meta) return;
    const int num_classes = num_classes_for(config, *dataset);
    require_same_labels(*weights.meta, config, class_names_by_label(*dataset, num_classes), notify);
  });
  const std::filesystem::path out =
      options.out.empty() ? std::filesystem::path("runs") / config.name / ("eval-" + options.split)
                          : std::filesystem::path(options.out);
  const bool maps = network->model().task() == models::Task::kSegmentation;
  const std::filesystem::path label_maps = maps ? out / kLabelMapFolder : std::filesystem::path();
  agree(context.communicator, [&] {
    if (context.is_root()) clear_output(out, label_maps, *dataset);
  });
  agree(context.communicator, [&] {
    if (maps) make_folders(label_maps);
  });
  const Evaluation evaluation = evaluate(
      {config, *network, *dataset, context.communicator, context.progress, threads, 0, label_maps});
  if (!evaluation.left_out.empty()) notify(left_out_text(evaluation.left_out, *dataset));
  agree(context.communicator, [&] {
    if (!context.is_root()) return;
    write_evaluation(evaluation, out, out / "predictions.png");
    std::printf("%s\nwritten to %s\n", metrics_text(evaluation.metrics).c_str(),
                out.string().c_str());
  });
}

}  // namespace

void add_eval(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand("eval", "evaluate a checkpoint on a split");
  verb->footer(
      "Example: mpirun -np 2 ridgeline eval configs/retinanet_r18_fpn_bccd.yaml "
      "--checkpoint runs/retinanet_r18_fpn_bccd/checkpoints/best --split test");
  auto options = std::make_shared<EvalOptions>();
  add_config_arguments(*verb, options->config);
  verb->add_option("--checkpoint", options->checkpoint,
                   "checkpoint folder, run folder (newest valid one), or HDF5 weight file")
      ->required();
  verb->add_option("--split", options->split, "split of the data (default: val)");
  verb->add_option("--out", options->out,
                   "folder for metrics.json, detections.json, pictures and, in predictions/, "
                   "predicted label maps");
  verb->callback([=, &context] { run_eval(*options, context); });
}

}  // namespace trainer
