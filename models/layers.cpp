#include "models/layers.h"

#include <cmath>

#include "models/ops/batch_norm.h"
#include "models/ops/frozen_norm.h"
#include "models/ops/group_norm.h"
#include "models/ops/sync_norm.h"

namespace models {
namespace {

constexpr int kNormGroups = 32;

Value channels(Graph& graph, const std::string& name, std::int64_t count, ParameterKind kind,
               float value, bool trainable) {
  return graph.parameter({name, {count}, kind, {Initializer::Rule::kConstant, value}, trainable});
}

}  // namespace

Initializer kaiming_fan_out(std::int64_t channels, int kernel) {
  return {Initializer::Rule::kKaimingNormal, static_cast<float>(channels * kernel * kernel)};
}

Initializer uniform_fan_in(std::int64_t inputs, int kernel) {
  const float bound = std::sqrt(3.0f / static_cast<float>(inputs * kernel * kernel));
  return {Initializer::Rule::kUniform, -bound, bound};
}

Value conv_layer(Graph& graph, Value x, const ConvLayer& layer, const LayerOptions& options) {
  Graph::Scope scope(graph, layer.name);
  const std::int64_t inputs = graph.shape(x)[1] / layer.conv.groups;
  Parameter weight{graph.qualified("weight"),
                   {layer.channels, inputs, layer.kernel, layer.kernel},
                   ParameterKind::kWeight,
                   layer.weight_init,
                   options.trainable,
                   layer.normalised && options.norm != NormKind::kFrozen};
  const Value w = graph.parameter(weight);
  std::optional<Value> bias;
  if (layer.bias) {
    bias = graph.parameter({graph.qualified("bias"), {layer.channels}, ParameterKind::kBias,
                            layer.bias_init, options.trainable});
  }
  return conv2d(graph, x, w, bias, layer.conv);
}

Value norm_layer(Graph& graph, Value x, const std::string& name, const LayerOptions& options) {
  Graph::Scope scope(graph, name);
  const std::int64_t count = graph.shape(x)[1];
  const bool frozen = options.norm == NormKind::kFrozen;
  const auto kind = frozen ? ParameterKind::kFixed : ParameterKind::kNorm;
  const bool trainable = options.trainable && !frozen;
  const Value gamma = channels(graph, graph.qualified("weight"), count, kind, 1.0f, trainable);
  const Value beta = channels(graph, graph.qualified("bias"), count, kind, 0.0f, trainable);
  if (options.norm == NormKind::kGroup) {
    return group_norm(graph, x, gamma, beta, kNormGroups, options.norm_eps);
  }
  const auto statistic = frozen ? ParameterKind::kFixed : ParameterKind::kStatistic;
  const Value mean =
      channels(graph, graph.qualified("running_mean"), count, statistic, 0.0f, !frozen);
  const Value variance =
      channels(graph, graph.qualified("running_var"), count, statistic, 1.0f, !frozen);
  if (!frozen) graph.counter(graph.qualified("num_batches_tracked"));
  if (frozen || !options.training) {
    return frozen_norm(graph, x, {gamma, beta, mean, variance}, options.norm_eps);
  }
  const BatchNormParameters parameters{gamma, beta, mean, variance};
  return options.norm == NormKind::kSync ? sync_batch_norm(graph, x, parameters, options.norm_eps)
                                         : batch_norm(graph, x, parameters, options.norm_eps);
}

}  // namespace models
