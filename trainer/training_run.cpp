#include "trainer/training_run.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <sstream>

#include "comm/threads.h"
#include "trainer/agree.h"
#include "trainer/batch_pictures.h"
#include "trainer/checkpoint/identity.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/device.h"
#include "trainer/feed.h"
#include "trainer/metric_identity.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The first line of two lists in which they differ.
std::pair<std::string, std::string> first_difference(const std::string& a, const std::string& b) {
  std::istringstream lines_a(a), lines_b(b);
  std::string line_a, line_b;
  do {
    line_a.clear();
    line_b.clear();
    std::getline(lines_a, line_a);
    std::getline(lines_b, line_b);
  } while (line_a == line_b && (lines_a || lines_b));
  return {line_a, line_b};
}

// What torchvision puts before a classifier's names when it becomes a backbone.
std::string backbone_prefix(ModelName model) {
  switch (model) {
    case ModelName::kRetinanet:
      return "backbone.body.";
    case ModelName::kFcn:
      return "backbone.";
    default:
      return "";
  }
}

}  // namespace

TrainingRun::TrainingRun(const LoadedConfig& config, const TrainingOptions& options,
                         comm::Communicator& communicator, comm::Progress& progress,
                         const comm::StopSignals& signals)
    : loaded_(config),
      config_(config.config),
      options_(options),
      communicator_(communicator),
      progress_(progress),
      signals_(signals) {}

TrainingRun::~TrainingRun() = default;

void TrainingRun::open_folder() {
  std::vector<std::string> early;  // said before the folder, and so the log, is this run's
  folder_ = std::make_unique<RunFolder>(options_.out, communicator_,
                                        [&](const std::string& line) { early.push_back(line); });
  if (options_.resume == "never") {
    agree(communicator_, progress_, [&] { folder_->require_fresh(); });
  }
  const std::filesystem::path logged = options_.check ? std::filesystem::path() : options_.out;
  log_ = std::make_unique<RunLog>(RunLogOptions{logged, communicator_.rank(), options_.console});
  for (const std::string& line : early) log_->warning("{}", line);
  find_checkpoint();
  choose_threads();
}

// A checkpoint that is named is where a run begins: started again, it goes on from its own ones.
void TrainingRun::find_checkpoint() {
  if (options_.resume == "never") return;
  const auto notify = [this](const std::string& line) { log_->warning("{}", line); };
  if (options_.resume == "auto") {
    checkpoint_ = newest_valid(options_.out, communicator_, notify);
    return;
  }
  try {
    checkpoint_ = newest_valid(options_.out, communicator_, notify);
  } catch (const AgreedError& error) {
    if (error.code() != comm::ExitCode::kCheckpointRefused) throw;
  }
  const auto begun_from = [](const Checkpoint& checkpoint) {
    const auto& notes = checkpoint.meta().notes;
    return notes.contains("resume") ? notes.at("resume") : "";
  };
  if (checkpoint_ && begun_from(*checkpoint_) == options_.resume) return;
  checkpoint_ = open_checkpoint(options_.resume, communicator_, notify);
}

// The number of threads decides bits: it is chosen once and kept on resume.
void TrainingRun::choose_threads() {
  int threads = config_.runtime.threads;
  const int automatic = comm::default_threads(communicator_);
  if (checkpoint_) {
    const auto& notes = checkpoint_->meta().notes;
    const int saved = notes.contains("threads") ? std::stoi(notes.at("threads")) : automatic;
    if (threads == 0) threads = saved;
    if (threads != saved) {
      log_->warning("not bitwise: threads {} -> {}", saved, threads);
    }
  }
  threads_ = threads > 0 ? threads : automatic;
  if (threads_ > automatic) {
    log_->warning(
        "{} threads a rank where there are cores for {}: slow; runtime.threads={} is faster, with "
        "other bits",
        threads_, automatic, automatic);
  }
  omp_set_num_threads(threads_);
  const comm::Device device = choose_device(config_.runtime, communicator_);
  agree(communicator_, progress_,
        [&] { stream_ = std::make_unique<comm::Stream>(device, threads_); });
}

void TrainingRun::open_data() {
  progress_.publish(comm::Phase::kInit, 0);
  agree(communicator_, progress_, [&] {
    OpenOptions open;
    open.fields = fields_of(config_.model.name);
    open.model_num_classes = config_.model.num_classes.value_or(0);
    train_ = options_.open(config_.data, open);
    if (config_.data.splits.contains("val")) {
      open.split = "val";
      progress_.publish(comm::Phase::kInit, 0);
      val_ = options_.open(config_.data, open);
      require_same_classes(*train_, *val_);
    }
    num_classes_ = num_classes_for(config_, *train_);
  });
  require_same_data();
  const std::int64_t num_micro_batches = config_.train.batch / config_.train.micro_batch;
  if (communicator_.size() > num_micro_batches) {
    throw AgreedError(
        comm::ExitCode::kConfig,
        fmt::format("train: {} ranks share {} micro-batches; use at most {} ranks, or "
                    "a smaller train.micro_batch (now {}) or a larger train.batch",
                    communicator_.size(), num_micro_batches, num_micro_batches,
                    config_.train.micro_batch));
  }
}

// A rank that read other files would train on something else.
void TrainingRun::require_same_data() {
  const auto all = communicator_.all_gather(
      fmt::format("{:016x} (train), {:016x} (val)", train_->fingerprint(), val_fingerprint()));
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (all[r] == all[0]) continue;
    throw AgreedError(
        comm::ExitCode::kConfig,
        fmt::format("ranks differ: the data that rank 0 read have the fingerprints {}, rank {} on "
                    "{}: {}; give all the same files",
                    all[0], r, communicator_.host(static_cast<int>(r)), all[r]));
  }
}

void TrainingRun::build() {
  const NetworkOptions options{communicator_.size(), true, common_tile(communicator_)};
  agree(communicator_, progress_, [&] {
    network_ =
        std::make_unique<Network>(config_, num_classes_, train_->channels(), *stream_, options);
    initialize(network_->storage(), static_cast<std::uint64_t>(config_.train.seed));
  });
  require_same_kernels();
  bulk_ = bulk_communicator(config_.runtime, communicator_, *stream_);
  agree(communicator_, progress_, [&] {
    OptimizerSetup setup{config_.optimizer,
                         config_.regularization,
                         config_.clip,
                         config_.ema,
                         config_.train.batch / config_.train.micro_batch,
                         exact_reduction(config_.runtime, stream_->view().device())};
    optimizer_ = std::make_unique<ShardedOptimizer>(
        network_->storage(), bulk_ ? *bulk_ : communicator_, *stream_, setup);
    prepare_saves();
  });
}

// What computes each layer, a line each; of every data.size.
std::string TrainingRun::kernels() const {
  std::string lines;
  for (std::size_t bucket = 0; bucket < config_.data.size.size(); ++bucket) {
    for (const std::string& line : network_->training(bucket).implementations()) {
      lines += line + "\n";
    }
  }
  return lines;
}

// On GPUs libraries choose by device and version: ranks with different engines would give other
// bits than fewer ranks do.
void TrainingRun::require_same_kernels() {
  const comm::Device device = stream_->view().device();
  if (device.kind == comm::DeviceKind::kCpu || !exact_reduction(config_.runtime, device)) return;
  const auto all = communicator_.all_gather(kernels());
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (all[r] == all[0]) continue;
    const auto [first, other] = first_difference(all[0], all[r]);
    throw AgreedError(
        comm::ExitCode::kDevice,
        fmt::format("ranks differ: rank 0 computes '{}', rank {} on {} '{}'; reduction exact needs "
                    "equal GPUs and libraries; set runtime.reduction=fast",
                    first, r, communicator_.host(static_cast<int>(r)), other));
  }
}

void TrainingRun::load_initial_weights() {
  const auto notify = [this](const std::string& line) { log_->info("{}", line); };
  const auto load = [&](const std::string& path, LoadOptions load_options) {
    if (path.empty()) return;
    const Weights weights = open_weights(path, false, communicator_, notify);
    load_options.source = path;
    agree(communicator_, progress_, [&] {
      const auto problems = load_weights(network_->storage(), weights.tensors, load_options);
      log_->info(
          "initial weights from {}{}", path,
          problems.empty() ? "" : fmt::format("; not loaded: {}", fmt::join(problems, ", ")));
    });
  };
  const LoadOptions backbone{.partial = options_.init_partial,
                             .initial = true,
                             .backbone = true,
                             .prefix = backbone_prefix(config_.model.name)};
  load(config_.model.backbone_weights, backbone);
  load(options_.init_backbone, backbone);
  load(options_.init, {.partial = options_.init_partial, .initial = true});
  if (config_.model.norm == Norm::kFrozen && options_.init.empty() &&
      options_.init_backbone.empty() && config_.model.backbone_weights.empty()) {
    log_->warning(
        "model.norm: frozen without initial weights: nothing normalises this network; "
        "use --init-backbone, or model.norm=batch");
  }
  optimizer_->start_ema();
}

void TrainingRun::restore() {
  const CheckpointMeta& meta = checkpoint_->meta();
  agree(communicator_, progress_, [&] {
    require_same_identity(meta.config, identity(),
                          [this](const std::string& line) { log_->info("{}", line); });
    load_weights(network_->storage(), checkpoint_->model(), {.source = "checkpoint"});
    load_state(*optimizer_, network_->layout(), *checkpoint_);
  });
  if (meta.notes.contains("kernels") && meta.notes.at("kernels") != kernels()) {
    const auto [before, now] = first_difference(meta.notes.at("kernels"), kernels());
    log_->warning("not bitwise: '{}' -> '{}'", before, now);
  }
  first_step_ = meta.step;
  std::error_code unknown;
  std::int64_t own = std::filesystem::equivalent(checkpoint_->folder().parent_path(),
                                                 options_.out / "checkpoints", unknown);
  communicator_.all_reduce(std::span(&own, 1), comm::Reduction::kMin);
  if (own != 0) resumed_step_ = meta.step;
  restore_best(meta);
  evaluation_owed_ = meta.notes.contains("evaluation");
  if (meta.notes.contains("loss")) result_.loss = std::stod(meta.notes.at("loss"));
  if (!options_.init.empty() || !options_.init_backbone.empty()) {
    log_->info("--init is ignored: the run continues from {}", checkpoint_->folder().string());
  }
  log_->info("continuing from {} (step {})", checkpoint_->folder().string(), meta.step);
}

// Values of another metric, of other images or other settings are not compared with those to come.
void TrainingRun::restore_best(const CheckpointMeta& meta) {
  const auto note = [&](const char* name) {
    const auto found = meta.notes.find(name);
    return found == meta.notes.end() ? std::string() : found->second;
  };
  const std::string before = note("metric"), now = metric_identity(config_, val_fingerprint());
  if (!before.empty() && before != now) {
    const auto [old_line, new_line] = first_difference(before, now);
    log_->warning("evaluations differ: '{}' -> '{}'; the best is chosen among those to come",
                  old_line, new_line);
    return;
  }
  if (!note("best").empty()) best_ = std::stod(note("best"));
  if (note("evaluations_without_best").empty()) return;
  evaluations_without_best_ = std::stoll(note("evaluations_without_best"));
  if (config_.train.early_stop > 0 && evaluations_without_best_ >= config_.train.early_stop)
    stopped_early_ = meta.step;
}

void TrainingRun::start() {
  progress_.allow(config_.runtime.stall_seconds);
  open_folder();
  open_data();
  build();
  if (checkpoint_) {
    restore();
  } else {
    load_initial_weights();
  }
  checkpoint_.reset();
  LoaderOptions loader =
      training_input(config_, communicator_, stream_->view().device(), loader_threads());
  loader.first_step = first_step_;
  agree(communicator_, progress_, [&] { loader_ = Loader::train(*train_, config_.data, loader); });
  const Sampler& sampler = loader_->sampler();
  length_.total_steps =
      config_.train.steps ? *config_.train.steps : sampler.steps_of_epochs(*config_.train.epochs);
  length_.steps_per_epoch =
      static_cast<double>(train_->size()) / static_cast<double>(config_.train.batch);
  length_.milestones_in_epochs = config_.train.epochs.has_value();
  evaluation_owed_ = evaluation_owed_ && evaluation_due(first_step_);
  meter_ = std::make_unique<StepMeter>(length_.total_steps, config_.train.batch);
  last_save_seconds_ = now();
  if (!options_.check) open_outputs();
}

void TrainingRun::open_outputs() {
  const auto notify = [this](const std::string& line) { log_->warning("{}", line); };
  store_ = std::make_unique<CheckpointStore>(options_.out, communicator_,
                                             StoreOptions{config_.checkpoint.keep, 3, notify});
  if (!is_root()) return;
  write_file(options_.out / "config.yaml", resolved_yaml(config_, loaded_.origins));
  metrics_ = std::make_unique<MetricsFile>(options_.out / "metrics.jsonl");
  metrics_->cut_back(first_step_);
  events_ = std::make_unique<EventsFile>(options_.out, first_step_);
}

void TrainingRun::greet() {
  const auto cpu = comm::cpu_info();
  const comm::Device device = stream_->view().device();
  log_->info("ridgeline: device {} ({}), {} rank{} x {} thread{}, reduction {}",
             comm::to_string(device),
             device.kind == comm::DeviceKind::kCpu ? cpu.isa : gpu_name(device),
             communicator_.size(), communicator_.size() == 1 ? "" : "s", threads_,
             threads_ == 1 ? "" : "s", exact_reduction(config_.runtime, device) ? "exact" : "fast");
  for (const std::string& notice : loaded_.notices) log_->info("{}", notice);
  if (num_classes_ > train_->num_classes()) {
    log_->info("the model has {} classes, the data {}", num_classes_, train_->num_classes());
  }
  log_->info("data: {} images to train on, {} to evaluate, {} classes{}", train_->size(),
             val_ ? val_->size() : 0, num_classes_,
             train_->anomalies().empty() ? "" : "; oddities: `ridgeline data CONFIG` lists them");
  log_->info("model: {} parameters; optimizer state {} a rank; {} steps ({:.1f} epochs)",
             network_->num_parameters(), format_bytes(optimizer_->state_bytes()),
             length_.total_steps,
             static_cast<double>(length_.total_steps) / length_.steps_per_epoch);
}

RunResult TrainingRun::run() {
  try {
    start();
    greet();
    if (first_step_ == 0 && !options_.check)
      report([&] { draw_batches(config_, *train_, 1, options_.out / "pictures"); });
    if (evaluation_owed_ && !options_.check) evaluate_now(first_step_, false);
    train();
    if (!options_.check) finish();
  } catch (const AgreedError& error) {
    throw ended_by(error);
  } catch (const std::exception& error) {
    if (log_) log_->record(LogLevel::kError, error.what());
    throw;
  }
  return result_;
}

void TrainingRun::train() {
  Trainer trainer({config_, *network_, *optimizer_, *loader_, communicator_, progress_, length_});
  const std::int64_t end = options_.check   ? first_step_ + 1
                           : stopped_early_ ? first_step_
                                            : last_step();
  for (std::int64_t index = first_step_; index < end; ++index) {
    StepVotes votes;
    votes.stop = signals_.requested();
    votes.save = is_root() && config_.checkpoint.every_minutes > 0 &&
                 now() - last_save_seconds_ >= 60 * config_.checkpoint.every_minutes;
    std::vector<StepReport> reports = trainer.step(index, votes);
    const bool acts = acts_after(index + 1, votes) || options_.check || index + 1 == end;
    if (acts) std::ranges::move(trainer.flush(), std::back_inserter(reports));
    if (options_.check) return report_check(reports.back());
    for (StepReport& report : reports) record_step(report);
    after_step(index + 1, votes);
    if (stopped_early_) break;
  }
}

void TrainingRun::report_check(const StepReport& report) {
  log_->info(
      "check: loss {:.4g}; the first step took {}, all at this rate {}; peak memory {} a "
      "rank; nothing was saved",
      report.loss, format_duration(report.seconds.total),
      format_duration(report.seconds.total * static_cast<double>(length_.total_steps)),
      format_bytes(report.memory_bytes));
}

void TrainingRun::record_step(StepReport& report) {
  for (const std::int64_t sample : report.left_out) {
    if (is_root()) log_->warning("{} cannot be read and is left out", train_->sample(sample).name);
  }
  meter_->observe(report);
  result_.loss = report.loss;
  if (report.logged) {
    log_->info("{}", meter_->line());
    if (metrics_) metrics_->training(report);
    if (events_) events_->training(report);
  }
  log_->progress(meter_->bar(log_->console_columns()));
}

bool TrainingRun::save_due(std::int64_t step) const {
  return config_.checkpoint.every_steps > 0 && step % config_.checkpoint.every_steps == 0;
}

// Whether something follows the step that a step which diverged must not be followed by.
bool TrainingRun::acts_after(std::int64_t step, const StepVotes& votes) const {
  return votes.stop || votes.save || save_due(step) || evaluation_due(step);
}

// REQUIRES: where this acts, every step up to this one is known to be finite.
void TrainingRun::after_step(std::int64_t step, const StepVotes& votes) {
  store_->poll();
  evaluation_owed_ = evaluation_due(step);
  if (votes.stop) stop(step);
  const bool saves = save_due(step) || votes.save;
  if (evaluation_owed_) return evaluate_now(step, saves);
  if (saves) save(step, false, false);
}

std::int64_t TrainingRun::last_step() const {
  // 3 x 1/3 of a schedule are all of it.
  const double steps = std::ceil(static_cast<double>(length_.total_steps) * options_.share - 1e-6);
  return std::clamp(static_cast<std::int64_t>(steps), std::int64_t{1}, length_.total_steps);
}

int TrainingRun::loader_threads() const {
  return config_.runtime.loader_threads > 0 ? config_.runtime.loader_threads : threads_;
}

}  // namespace trainer
