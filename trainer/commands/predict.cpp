// ridgeline predict CONFIG --checkpoint PATH --out DIR IMAGE...
#include "trainer/commands/predict.h"

#include <fmt/format.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <span>

#include "comm/threads.h"
#include "trainer/agree.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/commands/data_facts.h"
#include "trainer/commands/image_list.h"
#include "trainer/commands/json_writer.h"
#include "trainer/commands/overwrite.h"
#include "trainer/commands/verbs.h"
#include "trainer/config/read.h"
#include "trainer/device.h"
#include "trainer/evaluation.h"
#include "trainer/network.h"
#include "trainer/report/append_file.h"
#include "trainer/report/pictures.h"
#include "trainer/tasks/label_maps.h"
#include "trainer/trained_with.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

constexpr float kShownScore = 0.4f;  // fainter guesses are in the JSON and would hide the picture

constexpr int kLikeliest = 5;

void draw_answers(Image& picture, std::span<const Answer> answers,
                  const std::vector<std::string>& class_names) {
  std::vector<DrawnBox> boxes;
  for (const Answer& a : answers) {
    if (a.score < kShownScore) continue;
    boxes.push_back({static_cast<float>(a.box[0]), static_cast<float>(a.box[1]),
                     static_cast<float>(a.box[2]), static_cast<float>(a.box[3]), a.label,
                     fmt::format("{} {:.2f}", class_names.at(a.label), a.score)});
  }
  draw_boxes(picture, boxes);
}

class Predictor {
 public:
  Predictor(const Config& config, const PredictOptions& options, comm::Communicator& communicator,
            comm::Progress& progress)
      : config_(config),
        options_(options),
        communicator_(communicator),
        progress_(progress),
        threads_(config.runtime.threads > 0 ? config.runtime.threads
                                            : comm::default_threads(communicator)),
        stream_(choose_device(config_.runtime, communicator_), threads_) {
    omp_set_num_threads(threads_);
  }

  std::vector<Prediction> run() {
    agree(communicator_, [&] { open(); });
    load();
    std::vector<Prediction> predictions(options_.images.size());
    for (std::size_t i = 0; i < predictions.size(); ++i) {
      Prediction& p = predictions[i];
      p.file = options_.images[i];
      p.picture = names_[i] + ".png";
      if (task() == models::Task::kSegmentation) p.label_map = label_map_file(i);
    }
    for (const LeftOut& one : predict()) {
      Prediction& p = predictions[static_cast<std::size_t>(one.sample)];
      p.left_out = one.message;
      p.picture.clear();
      p.label_map.clear();
    }
    for (const Answer& answer : gather_answers(mine_, communicator_)) {
      Prediction& p = predictions[static_cast<std::size_t>(answer.sample)];
      if (answer.label >= 0) {
        p.answers.push_back(answer);
      } else {
        p.width = static_cast<int>(answer.box[2]);
        p.height = static_cast<int>(answer.box[3]);
      }
    }
    agree(communicator_, [&] {
      if (communicator_.rank() != 0) return;
      write_file(options_.out / "predictions.json",
                 predictions_json(task(), predictions, facts_.class_names));
    });
    return predictions;
  }

  models::Task task() const { return network_->model().task(); }

 private:
  void open() {
    images_ = std::make_unique<ImageList>(options_.images, num_channels(config_.data.format));
    names_ = unique_stems(options_.images);
    refuse_to_overwrite(options_.images, outputs());
    facts_ = data_facts(config_, config_.data.splits.contains("val") ? "val" : "train");
    network_ = std::make_unique<Network>(config_, facts_.num_classes, images_->channels(), stream_,
                                         NetworkOptions{communicator_.size(), false});
    make_folders(task() == models::Task::kSegmentation ? options_.out / kLabelMapFolder
                                                       : options_.out);
  }

  void load() {
    const auto notify = [&](const std::string& line) {
      if (communicator_.rank() == 0) std::fprintf(stderr, "%s\n", line.c_str());
    };
    const Weights weights = open_weights(
        options_.checkpoint, config_.eval.weights == EvalWeights::kEma, communicator_, notify);
    agree(communicator_, [&] {
      load_weights(network_->storage(), weights.tensors, {.source = weights.source});
      if (weights.meta) name_classes(*weights.meta, notify);
    });
  }

  // Where no annotations name the classes, the training data did.
  void name_classes(const CheckpointMeta& meta, const Notify& notify) {
    require_same_labels(meta, config_, facts_.absent.empty() ? facts_.class_names : ClassNames{},
                        notify);
    if (facts_.absent.empty()) return;
    const ClassNames trained = noted_classes(meta);
    for (std::size_t k = 0; k < std::min(trained.size(), facts_.class_names.size()); ++k) {
      if (!trained[k].empty()) facts_.class_names[k] = trained[k];
    }
  }

  std::vector<std::filesystem::path> outputs() const {
    std::vector<std::filesystem::path> files = {options_.out / "predictions.json"};
    for (std::size_t i = 0; i < names_.size(); ++i) {
      files.push_back(options_.out / (names_[i] + ".png"));
      files.push_back(options_.out / label_map_file(i));
    }
    return files;
  }

  // Relative to the output folder.
  std::string label_map_file(std::size_t image) const {
    return std::string(kLabelMapFolder) + "/" + names_[image] + ".png";
  }

  // This rank's share of the images into mine_. Returns what could not be read. Collective.
  std::vector<LeftOut> predict() {
    const Fields seen_as_in_evaluation{.label = task() == models::Task::kClassification};
    return infer({config_, *network_, *images_, communicator_, progress_, threads_},
                 seen_as_in_evaluation,
                 [this](const auto& outputs, const auto& batch, int n) { add(outputs, batch, n); });
  }

  // The image's answers, behind one of label -1 whose box is the whole image.
  void add(const HostOutputs& outputs, const Batch& batch, int n) {
    const std::int64_t sample = batch.sample_id[static_cast<std::size_t>(n)];
    const Geometry& g = batch.geometry[static_cast<std::size_t>(n)];
    mine_.push_back({sample,
                     -1,
                     0,
                     {0, 0, static_cast<double>(g.original_w), static_cast<double>(g.original_h)}});
    const std::vector<Answer> answers = answers_for(outputs, batch, n, sample);
    mine_.insert(mine_.end(), answers.begin(), answers.end());
  }

  // Also writes the image's pictures.
  std::vector<Answer> answers_for(const HostOutputs& outputs, const Batch& batch, int n,
                                  std::int64_t sample) {
    Image picture = images_->image(sample).image;
    const std::filesystem::path base = options_.out / names_[static_cast<std::size_t>(sample)];
    std::vector<Answer> answers;
    if (task() == models::Task::kDetection) {
      answers = read_detections(outputs, batch, n);
      draw_answers(picture, answers, facts_.class_names);
    } else if (task() == models::Task::kSegmentation) {
      const LabelImage labels = read_label_map(outputs, batch, n);
      answers = shares_of_classes(labels, sample);
      write_label_map(options_.out / label_map_file(static_cast<std::size_t>(sample)), labels,
                      {network_->num_classes(), facts_.has_background});
      picture = overlay_labels(picture, labels, {facts_.has_background});
    } else {
      answers = read_classes(outputs, batch, n, kLikeliest);
      const Answer& best = answers[0];
      std::vector<Tile> tiles;
      tiles.push_back({std::move(picture),
                       fmt::format("{} {:.2f}", facts_.class_names.at(best.label), best.score)});
      picture = draw_grid(tiles, {1, "", {}});
    }
    write_png(base.string() + ".png", picture);
    return answers;
  }

  const Config& config_;
  const PredictOptions& options_;
  comm::Communicator& communicator_;
  comm::Progress& progress_;
  int threads_;
  comm::Stream stream_;
  std::unique_ptr<ImageList> images_;
  std::vector<std::string> names_;  // of the pictures, without extension
  DataFacts facts_;
  std::unique_ptr<Network> network_;
  std::vector<Answer> mine_;
};

struct Options {
  std::string config;
  std::vector<std::string> words;
  std::string checkpoint, out;
};

void run_verb(const Options& options, const CommandContext& context) {
  const PredictWords words = divide_words(options.words);
  if (words.images.empty()) {
    throw AgreedError(comm::ExitCode::kUsage,
                      "predict: no image given; name the files behind the "
                      "configuration");
  }
  const Config config =
      load_agreed_config({options.config, words.overrides}, context.communicator).config;
  const PredictOptions predict{options.checkpoint, options.out, words.images};
  const auto predictions = run_predict(config, predict, context.communicator, context.progress);
  if (!context.is_root()) return;
  for (const Prediction& p : predictions) {
    if (p.left_out.empty()) {
      std::printf("%s: %zu answers\n", p.file.c_str(), p.answers.size());
    } else {
      std::printf("left out: %s\n", p.left_out.c_str());
    }
  }
  std::printf("written to %s; pictures show detections with scores from %.1f on\n",
              options.out.c_str(), static_cast<double>(kShownScore));
}

}  // namespace

PredictWords divide_words(const std::vector<std::string>& words) {
  PredictWords divided;
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    const bool is_key = equals != std::string::npos && equals > 0 &&
                        word.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.") == equals;
    const bool override_given = is_key && !std::filesystem::exists(word);
    (override_given ? divided.overrides : divided.images).push_back(word);
  }
  return divided;
}

std::string predictions_json(models::Task task, const std::vector<Prediction>& predictions,
                             const std::vector<std::string>& class_names) {
  const bool boxes = task == models::Task::kDetection;
  const char* score = boxes                                 ? "score"
                      : task == models::Task::kSegmentation ? "share"
                                                            : "probability";
  JsonWriter json;
  json.begin_array("images");
  for (const Prediction& p : predictions) {
    json.begin_object();
    json.text("file", p.file);
    if (p.left_out.empty()) {
      json.integer("width", p.width);
      json.integer("height", p.height);
      json.text("picture", p.picture);
    } else {
      json.text("left_out", p.left_out);
    }
    if (!p.label_map.empty()) json.text("label_map", p.label_map);
    json.begin_array(boxes ? "detections" : "classes");
    for (const Answer& a : p.answers) {
      json.begin_object();
      json.integer("label", a.label);
      json.text("class", class_names.at(static_cast<std::size_t>(a.label)));
      json.number(score, a.score);
      if (boxes) {
        json.begin_array("box");
        for (double corner : a.box) json.value(corner);
        json.end_array();
      }
      json.end_object();
    }
    json.end_array();
    json.end_object();
  }
  json.end_array();
  return json.finish();
}

std::vector<Prediction> run_predict(const Config& config, const PredictOptions& options,
                                    comm::Communicator& communicator, comm::Progress& progress) {
  return Predictor(config, options, communicator, progress).run();
}

void add_predict(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand(
      "predict", "detections, label maps or classes of image files, as JSON and as pictures");
  verb->footer(
      "Example: ridgeline predict configs/retinanet_r18_fpn_bccd.yaml --checkpoint "
      "runs/retinanet_r18_fpn_bccd/checkpoints/best --out predictions a.jpg b.jpg");
  auto options = std::make_shared<Options>();
  verb->add_option("CONFIG", options->config, "configuration file (YAML)")->required();
  verb->add_option("IMAGE", options->words, "image files; KEY=VALUE overrides may stand among them")
      ->required();
  verb->add_option("--checkpoint", options->checkpoint,
                   "checkpoint folder, run folder (newest valid one), or HDF5 weight file")
      ->required();
  verb->add_option("--out", options->out,
                   "folder for predictions.json, the pictures and, in predictions/, label maps")
      ->required();
  verb->callback([=, &context] { run_verb(*options, context); });
}

}  // namespace trainer
