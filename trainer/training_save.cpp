// What of a run goes into a checkpoint.
#include <chrono>
#include <cmath>

#include "comm/version.h"
#include "trainer/metric_identity.h"
#include "trainer/trained_with.h"
#include "trainer/training_run.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

ConfigClass config_class(KeyClass cls) {
  switch (cls) {
    case KeyClass::kIdentity:
      return ConfigClass::kIdentity;
    case KeyClass::kSchedule:
      return ConfigClass::kSchedule;
    case KeyClass::kRuntime:
      return ConfigClass::kRuntime;
  }
  return ConfigClass::kIdentity;
}

}  // namespace

std::vector<ConfigEntry> TrainingRun::identity() const {
  std::vector<ConfigEntry> entries;
  for (const KeyValue& key : key_values(config_)) {
    entries.push_back({key.key, key.value, config_class(key.cls), key.is_default});
  }
  entries.push_back({"data (fingerprint)", fmt::format("{:016x}", train_->fingerprint()),
                     ConfigClass::kIdentity});
  entries.push_back({"model (classes)", std::to_string(num_classes_), ConfigClass::kIdentity});
  return entries;
}

// Page-locking memory takes its time: before the first step, not in the first save.
void TrainingRun::prepare_saves() {
  const comm::Buffer& parameters = network_->storage().parameters;
  if (optimizer_->has_ema()) ema_ = comm::Buffer(parameters.device(), parameters.size_bytes());
  if (is_root()) {
    host_parameters_ = HostMirror(parameters);
    host_ema_ = HostMirror(ema_);
  }
  optimizer_->make_mirrors();
}

Snapshot TrainingRun::snapshot(std::int64_t step, bool best) {
  optimizer_->finish();
  counter_ = step;
  Snapshot snapshot;
  snapshot.kept = !stream_->view().on_cpu();
  snapshot.meta.step = step;
  snapshot.meta.epoch = static_cast<std::int64_t>(loader_->sampler().epochs_of_steps(step));
  snapshot.meta.best = best;
  snapshot.meta.config = identity();
  snapshot.meta.versions = {{"ridgeline", comm::kVersion}, {"commit", comm::kGitCommit}};
  snapshot.meta.notes["threads"] = std::to_string(threads_);
  snapshot.meta.notes["isa"] = comm::cpu_info().isa;
  snapshot.meta.notes["resume"] = options_.resume;
  snapshot.meta.notes["metric"] = metric_identity(config_, val_fingerprint());
  if (evaluation_owed_) snapshot.meta.notes["evaluation"] = "owed";
  snapshot.meta.notes["evaluations_without_best"] = std::to_string(evaluations_without_best_);
  if (std::isfinite(result_.loss))
    snapshot.meta.notes["loss"] = fmt::format("{:.17g}", result_.loss);
  if (std::isfinite(best_)) snapshot.meta.notes["best"] = fmt::format("{:.17g}", best_);
  snapshot.meta.notes["kernels"] = kernels();
  note_classes(snapshot.meta, class_names_by_label(*train_, num_classes_));
  const auto fetched = [&](const HostMirror& mirror) {
    mirror.fetch(*stream_);
    return model_arrays(network_->layout(), mirror.bytes(), network_->counters(), counter_);
  };
  if (is_root()) snapshot.model = fetched(host_parameters_);
  if (optimizer_->has_ema()) {
    optimizer_->gather_ema(ema_);
    if (is_root()) snapshot.ema = fetched(host_ema_);
  }
  optimizer_->for_each_state([&](const std::string& state, const std::string& tensor,
                                 std::int64_t begin, std::int64_t end, std::span<float> values) {
    const int tile = network_->layout().slot(tensor).tile;
    snapshot.optimizer.push_back({state, tensor, begin, end, values, tile});
  });
  stream_->view().synchronize();
  if (bulk_) bulk_->barrier();  // had a peer gone, what it did not send would be saved as well
  return snapshot;
}

std::int64_t TrainingRun::saved_step() const {
  return store_->committed_step().value_or(resumed_step_);
}

void TrainingRun::save(std::int64_t step, bool best, bool final) {
  progress_.publish(comm::Phase::kCheckpoint, step);
  store_->finish();  // of a save in flight, which may still read what the snapshot overwrites
  if (best || saved_step() != step) {
    const Snapshot now = snapshot(step, best);
    if (final) {
      store_->save_final(now);
    } else {
      store_->save_async(now);
    }
  }
  last_save_seconds_ =
      std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace trainer
