#include <fmt/format.h>

#include "trainer/config/read.h"
#include "trainer/config/schema.h"

namespace trainer {
namespace {

class Resolver {
 public:
  explicit Resolver(LoadedConfig& loaded) : loaded_(loaded), config_(loaded.config) {}

  void run(const std::string& stem) {
    set("name", config_.name, stem, "the file's stem");
    resolve_model();
    resolve_data();
    resolve_training();
  }

 private:
  bool given(const std::string& key) const { return loaded_.origins.contains(key); }

  template <typename T>
  void set(const std::string& key, T& member, T value, const std::string& why) {
    if (given(key)) return;
    member = std::move(value);
    loaded_.origins[key] = "default (" + why + ")";
  }

  void resolve_model() {
    ModelConfig& model = config_.model;
    if (model.name != ModelName::kFcn) return;
    if (model.head == FcnHead::kDilated)
      set("model.dropout", model.dropout, 0.1, "fcn dilated");
    else if (model.backbone == Backbone::kVgg16)
      set("model.dropout", model.dropout, 0.5, "fcn on vgg16");
  }

  void resolve_data() {
    DataConfig& data = config_.data;
    if (data.format == DataFormat::kMnist) {
      set("data.size", data.size, {{28, 28}}, "mnist");
      set("data.mean", data.mean, {0.0}, "mnist");
      set("data.std", data.std, {1.0}, "mnist");
    }
    const bool has_own_splits =
        data.format == DataFormat::kMnist || data.format == DataFormat::kShapes;
    if (has_own_splits && data.splits.empty()) data.splits = {{"train", {}}, {"val", {}}};
    for (auto& [name, split] : data.splits) {
      constexpr int64_t kTrainShapes = 512, kOtherShapes = 128;
      if (data.format == DataFormat::kShapes)
        set("data." + name + ".limit", split.limit,
            std::optional(name == "train" ? kTrainShapes : kOtherShapes), "shapes");
    }
  }

  void resolve_training() {
    TrainConfig& train = config_.train;
    const bool whole = train.batch % 8 == 0;
    set("train.micro_batch", train.micro_batch, whole ? train.batch / 8 : train.batch,
        whole ? "batch / 8" : "batch");
    if (config_.optimizer.name == OptimizerName::kAdagrad)
      set("optimizer.eps", config_.optimizer.eps, 1e-10, "adagrad");
    if (config_.optimizer.name == OptimizerName::kAdamw)
      set("regularization.mode", config_.regularization.mode, DecayMode::kDecoupled, "adamw");
    const std::string metric = config_.model.name == ModelName::kRetinanet ? "bbox/AP"
                               : config_.model.name == ModelName::kFcn     ? "semantic/mIoU"
                                                                       : "classification/accuracy";
    set("checkpoint.best", config_.checkpoint.best, metric, print_value(config_.model.name));
  }

  LoadedConfig& loaded_;
  Config& config_;
};

void drop_idle_keys(LoadedConfig& loaded) {
  const Config defaults;
  for (const Row<Config>& row : schema()) {
    if (applies(row, loaded.config)) continue;
    const auto origin = loaded.origins.find(row.key);
    if (origin == loaded.origins.end()) continue;
    const bool changed = row.print(loaded.config) != row.print(defaults);
    if (changed && row.info.strict) continue;  // contradictions() reports it
    if (changed)
      loaded.notices.push_back(fmt::format("{}: {}: has no effect here (it is for {})",
                                           origin->second, row.key, row.info.applies.text));
    row.assign(defaults, loaded.config);
    loaded.origins.erase(origin);
  }
}

}  // namespace

void resolve_defaults(const std::string& stem, LoadedConfig& loaded) {
  Resolver(loaded).run(stem);
  drop_idle_keys(loaded);
  for (const Row<Config>& row : schema())
    if (applies(row, loaded.config)) loaded.origins.try_emplace(row.key, "default");
  for (const auto& [name, split] : loaded.config.data.splits)
    for (const Row<SplitConfig>& row : split_schema())
      loaded.origins.try_emplace(split_prefix() + name + "." + row.key, "default");
  loaded.origins.try_emplace(rules_key(), "default");
}

int num_channels(DataFormat format) { return format == DataFormat::kMnist ? 1 : 3; }

}  // namespace trainer
