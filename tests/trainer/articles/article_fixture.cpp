#include "tests/trainer/articles/article_fixture.h"

namespace trainer::testing {
namespace {

std::shared_ptr<const models::ParameterLayout> layout_of(const Weights& weights) {
  std::vector<models::Parameter> parameters;
  for (const auto& [name, value] : weights) {
    const auto kind = name.ends_with("bias")    ? models::ParameterKind::kBias
                      : name.ends_with("gamma") ? models::ParameterKind::kNorm
                                                : models::ParameterKind::kWeight;
    parameters.push_back({name, {1}, kind});
  }
  return std::make_shared<const models::ParameterLayout>(
      models::make_parameter_layout(parameters, {}, 1));
}

OptimizerSetup setup_of(const Config& config) {
  return {config.optimizer, config.regularization, config.clip, config.ema};
}

}  // namespace

Config article_config(const std::string& text) {
  return parse_config("train: {epochs: 1}\n" + text, "article.yaml").config;
}

Ours::Ours(const std::string& text, const Weights& weights)
    : config_(article_config(text)),
      communicator_(comm::single_communicator()),
      stream_(comm::Device{}),
      storage_(layout_of(weights), comm::Device{}),
      optimizer_(storage_, *communicator_, stream_, setup_of(config_)) {
  for (const auto& [name, value] : weights) *storage_.parameter(name).f32() = value;
}

void Ours::step(const Weights& gradients) {
  for (const models::ParameterSlot& slot : storage_.layout->slots) {
    const auto given = gradients.find(slot.parameter.name);
    *storage_.gradient(slot.parameter.name).f32() = given == gradients.end() ? 0 : given->second;
  }
  optimizer_.begin_step({.step = num_steps_++, .lr = config_.optimizer.lr, .report = true});
  for (std::size_t k = 0; k < storage_.layout->buckets.size(); ++k) {
    optimizer_.bucket_ready(static_cast<int>(k));
  }
  optimizer_.finish_updates();
  optimizer_.finish();
  penalty_ = optimizer_.report().l2_penalty;
}

float Ours::at(const std::string& name) const { return *storage_.parameter(name).f32(); }

float updated(const std::string& text, float w, float gradient) {
  Ours ours(text, {{"w", w}});
  ours.step({{"w", gradient}});
  return ours.at();
}

std::string config_error(const std::string& text) {
  try {
    article_config(text);
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kConfig) << e.what();
    return e.what();
  }
  return "";
}

}  // namespace trainer::testing
