// ridgeline predict CONFIG --checkpoint PATH --out DIR IMAGE...
#include "trainer/commands/predict.h"

#include <fmt/format.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "comm/threads.h"
#include "trainer/agree.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/commands/data_facts.h"
#include "trainer/commands/image_list.h"
#include "trainer/commands/json_writer.h"
#include "trainer/commands/verbs.h"
#include "trainer/data/loader.h"
#include "trainer/feed.h"
#include "trainer/report/append_file.h"
#include "trainer/report/pictures.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

constexpr float kShownScore = 0.4f;  // fainter guesses are in the JSON and would hide the picture

// What one rank found on its images, in the form that travels.
struct FoundImage {
  std::int64_t sample;
  std::int32_t width, height;
  std::int64_t num_found;
};

std::string bytes_of(const std::vector<FoundImage>& images, const std::vector<Found>& found) {
  const std::int64_t count = std::ssize(images);
  std::string bytes(reinterpret_cast<const char*>(&count), sizeof(count));
  bytes.append(reinterpret_cast<const char*>(images.data()), images.size() * sizeof(FoundImage));
  return bytes.append(reinterpret_cast<const char*>(found.data()), found.size() * sizeof(Found));
}

void take_bytes(const std::string& bytes, std::vector<Prediction>& predictions) {
  std::int64_t count;
  std::memcpy(&count, bytes.data(), sizeof(count));
  std::size_t at = sizeof(count);
  std::size_t found_at = at + static_cast<std::size_t>(count) * sizeof(FoundImage);
  for (std::int64_t i = 0; i < count; ++i, at += sizeof(FoundImage)) {
    FoundImage image;
    std::memcpy(&image, bytes.data() + at, sizeof(image));
    Prediction& prediction = predictions[static_cast<std::size_t>(image.sample)];
    prediction.width = image.width;
    prediction.height = image.height;
    prediction.found.resize(static_cast<std::size_t>(image.num_found));
    const std::size_t size = prediction.found.size() * sizeof(Found);
    if (size > 0) std::memcpy(prediction.found.data(), bytes.data() + found_at, size);
    found_at += size;
  }
}

void draw(const Dataset& images, std::int64_t sample, std::span<const Found> found,
          const DataFacts& facts, const std::filesystem::path& file) {
  Image picture = images.image(sample).image;
  std::vector<DrawnBox> boxes;
  for (const Found& f : found) {
    if (f.score < kShownScore) continue;
    boxes.push_back({static_cast<float>(f.box[0]), static_cast<float>(f.box[1]),
                     static_cast<float>(f.box[2]), static_cast<float>(f.box[3]), f.label,
                     fmt::format("{} {:.2f}", facts.class_names.at(f.label), f.score)});
  }
  draw_boxes(picture, boxes);
  write_png(file, picture);
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
        stream_(comm::Device{}, threads_) {
    omp_set_num_threads(threads_);
  }

  std::vector<Prediction> run() {
    agree(communicator_, [&] { open(); });
    load();
    std::string mine;
    agree(communicator_, [&] { mine = detect(); });
    std::vector<Prediction> predictions(options_.images.size());
    for (std::size_t i = 0; i < predictions.size(); ++i) {
      predictions[i].file = options_.images[i];
      predictions[i].picture = pictures_[i];
    }
    for (const std::string& bytes : communicator_.all_gather(mine)) take_bytes(bytes, predictions);
    agree(communicator_, [&] {
      if (communicator_.rank() != 0) return;
      write_file(options_.out / "predictions.json",
                 predictions_json(predictions, facts_.class_names));
    });
    return predictions;
  }

 private:
  void open() {
    images_ = std::make_unique<ImageList>(options_.images);
    for (const std::string& name : picture_names(options_.images)) {
      pictures_.push_back(name + ".png");
    }
    facts_ = data_facts(config_, config_.data.splits.contains("val") ? "val" : "train");
    network_ = std::make_unique<Network>(config_, facts_.num_classes, images_->channels(), stream_,
                                         communicator_.size(), false);
    if (network_->model().task() != models::Task::kDetection) {
      comm::fail(comm::ExitCode::kConfig, "model.name: predict takes detectors only, not {}",
                 to_string(config_.model.name));
    }
    std::filesystem::create_directories(options_.out);
  }

  void load() {
    const auto notify = [&](const std::string& line) {
      if (communicator_.rank() == 0) std::fprintf(stderr, "%s\n", line.c_str());
    };
    const Weights weights = open_weights(
        options_.checkpoint, config_.eval.weights == EvalWeights::kEma, communicator_, notify);
    agree(communicator_,
          [&] { load_weights(network_->storage(), weights.tensors, {.source = weights.source}); });
  }

  // This rank's share of the images.
  std::string detect() {
    LoaderOptions options;
    options.micro_batch = config_.train.micro_batch;
    options.rank = communicator_.rank();
    options.num_ranks = communicator_.size();
    options.threads = threads_;
    const auto loader = Loader::evaluate(*images_, config_.data, options);
    models::StepObserver none;
    std::vector<FoundImage> found_images;
    std::vector<Found> all;
    for (std::int64_t count = 0; Batch* batch = loader->next(); ++count) {
      progress_.publish(comm::Phase::kEval, count);
      models::Executable& plan = network_->inference(static_cast<std::size_t>(batch->bucket));
      feed(plan, *batch);
      plan.run(none, 0);
      for (int n = 0; n < batch->valid; ++n) {
        const std::int64_t sample = batch->sample_id[static_cast<std::size_t>(n)];
        if (sample < 0) continue;  // left out by data.on_error: skip
        const Geometry& geometry = batch->geometry[static_cast<std::size_t>(n)];
        const std::vector<Found> found = read_detections(plan, *batch, n);
        draw(*images_, sample, found, facts_,
             options_.out / pictures_[static_cast<std::size_t>(sample)]);
        found_images.push_back(
            {sample, geometry.original_w, geometry.original_h, std::ssize(found)});
        all.insert(all.end(), found.begin(), found.end());
      }
    }
    return bytes_of(found_images, all);
  }

  const Config& config_;
  const PredictOptions& options_;
  comm::Communicator& communicator_;
  comm::Progress& progress_;
  int threads_;
  comm::Stream stream_;
  std::unique_ptr<ImageList> images_;
  std::vector<std::string> pictures_;
  DataFacts facts_;
  std::unique_ptr<Network> network_;
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
    std::printf("%s: %zu detections\n", p.file.c_str(), p.found.size());
  }
  std::printf("written to %s; pictures show scores from %.1f on\n", options.out.c_str(),
              static_cast<double>(kShownScore));
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

std::string predictions_json(const std::vector<Prediction>& predictions,
                             const std::vector<std::string>& class_names) {
  JsonWriter json;
  json.begin_array("images");
  for (const Prediction& p : predictions) {
    json.begin_object();
    json.text("file", p.file);
    json.integer("width", p.width);
    json.integer("height", p.height);
    json.text("picture", p.picture);
    json.begin_array("detections");
    for (const Found& f : p.found) {
      json.begin_object();
      json.integer("label", f.label);
      json.text("class", class_names.at(static_cast<std::size_t>(f.label)));
      json.number("score", f.score);
      json.begin_array("box");
      for (double corner : f.box) json.value(corner);
      json.end_array();
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
  auto* verb = app.add_subcommand("predict", "detections on image files, as JSON and as pictures");
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
  verb->add_option("--out", options->out, "folder for predictions.json and the pictures")
      ->required();
  verb->callback([=, &context] { run_verb(*options, context); });
}

}  // namespace trainer
