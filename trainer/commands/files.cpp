// The verbs that read files only: score, data, config.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>

#include "trainer/agree.h"
#include "trainer/batch_pictures.h"
#include "trainer/commands/config.h"
#include "trainer/commands/data.h"
#include "trainer/commands/score.h"
#include "trainer/commands/verbs.h"
#include "trainer/feed.h"

namespace trainer {
namespace {

void print(const CommandContext& context, const std::string& text) {
  if (context.is_root()) std::fputs(text.c_str(), stdout);
}

void draw_data(const Config& config, const std::string& folder) {
  OpenOptions open;
  open.fields = fields_of(config.model.name);
  open.model_num_classes = config.model.num_classes.value_or(0);
  draw_batches(config, *open_dataset(config.data, open), 2, folder);
}

struct ScoreOptions {
  std::string annotations, detections, type = "bbox", labels, predictions, out;
  int num_classes = 0, ignore = 255;
};

void run_score(const ScoreOptions& options, const CommandContext& context) {
  const bool boxes = !options.annotations.empty() && !options.detections.empty();
  const bool maps = !options.labels.empty() && !options.predictions.empty();
  if (boxes == maps) {
    comm::fail(comm::ExitCode::kUsage,
               "score: give --annotations and --detections, or --labels, --predictions and "
               "--num-classes");
  }
  const Metrics metrics =
      boxes ? score_detections({options.annotations, options.detections,
                                options.type == "segm" ? IouType::kMask : IouType::kBox})
            : score_labels(
                  {options.labels, options.predictions, options.num_classes, options.ignore});
  print(context, report_score(metrics, options.out));
}

}  // namespace

void add_score(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand("score", "metrics of results files; needs no model");
  verb->footer(
      "Example: ridgeline score --annotations instances_val.json --detections "
      "detections.json --type bbox");
  auto options = std::make_shared<ScoreOptions>();
  verb->add_option("--annotations", options->annotations, "COCO ground truth");
  verb->add_option("--detections", options->detections, "COCO results file");
  verb->add_option("--type", options->type, "bbox | segm (default: bbox)")
      ->check(CLI::IsMember({"bbox", "segm"}));
  verb->add_option("--labels", options->labels, "folder of label images");
  verb->add_option("--predictions", options->predictions,
                   "folder of predicted label images, or what `eval` or `predict` wrote");
  verb->add_option("--num-classes", options->num_classes, "classes of the label images");
  verb->add_option("--ignore", options->ignore, "label that is not scored (default: 255)");
  verb->add_option("--out", options->out, "write the metrics here as JSON");
  verb->callback([=, &context] {
    agree(context.communicator, [&] {
      if (context.is_root()) run_score(*options, context);
    });
  });
}

void add_data(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand("data", "what the data set is, and what is odd about it");
  verb->footer("Example: ridgeline data configs/retinanet_r18_fpn_bccd.yaml --check");
  struct Options {
    ConfigArguments config;
    DataCommand command;
    std::string out;
  };
  auto options = std::make_shared<Options>();
  add_config_arguments(*verb, options->config);
  verb->add_flag("--check", options->command.check,
                 "decode every image; fails exactly when train would");
  verb->add_option("--out", options->out, "write pictures of batches here");
  verb->add_flag("--json", options->command.json, "one JSON object on stdout");
  verb->callback([=, &context] {
    const Config config = load_agreed_config(options->config, context.communicator).config;
    agree(context.communicator, [&] {
      if (!context.is_root()) return;
      const DataOutput output = run_data(config, options->command);
      print(context, output.text);
      if (output.stop) throw *output.stop;
      if (!options->out.empty()) draw_data(config, options->out);
    });
  });
}

void add_config(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand("config", "show, check or explain configurations");
  verb->require_subcommand(1);
  verb->footer(
      "Example: ridgeline config show configs/retinanet_r50_fpn_coco.yaml optimizer.lr=0.02");
  struct Verb {
    const char *name, *help;
    std::string (*text)(const std::string&, std::span<const std::string>);
  };
  for (const Verb& v :
       {Verb{"show", "the resolved file with the origin of each value", config_show},
        Verb{"check", "errors only", config_check}}) {
    auto* nested = verb->add_subcommand(v.name, v.help);
    auto arguments = std::make_shared<ConfigArguments>();
    add_config_arguments(*nested, *arguments);
    nested->callback([=, &context] {
      agree(context.communicator, [&] {
        if (context.is_root()) print(context, v.text(arguments->path, arguments->overrides));
      });
    });
  }
  auto* keys = verb->add_subcommand("keys", "every key with type, default, range and meaning");
  auto ignored = std::make_shared<std::vector<std::string>>();
  keys->add_option("CONFIG", *ignored, "taken and not read: the keys are always the same");
  keys->callback([ignored, &context] { print(context, config_keys()); });
}

}  // namespace trainer
