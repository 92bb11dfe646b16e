// The printed plan, byte for byte: order, fusion, layouts, buckets, memory. After a change that is
// meant, run with RIDGELINE_UPDATE_GOLDENS=1 and read the difference.
#include "models/layers.h"
#include "models/ops/add.h"
#include "models/ops/max_pool.h"
#include "models/ops/relu.h"
#include "tests/goldens/golden_text.h"
#include "tests/models/golden_fixture.h"

namespace models::testing {
namespace {

// Every pass has something to do: a stem, a residual block with batch norm, a head.
Graph small_network(bool training) {
  Graph graph;
  const LayerOptions options{.norm = NormKind::kBatch, .training = training};
  const auto conv = [&](Value x, const std::string& name, int kernel, int stride) {
    return conv_layer(graph, x,
                      {.name = name,
                       .channels = 20,
                       .kernel = kernel,
                       .conv = {.stride = stride, .padding = kernel / 2},
                       .bias = false},
                      options);
  };
  Value x = graph.input("image", {Type::kF32, {1, 3, 32, 32}});
  {
    Graph::Scope scope(graph, "stem");
    x = relu(graph, norm_layer(graph, conv(x, "conv", 7, 2), "bn", options));
    x = max_pool(graph, x, 3, 2, 1);
  }
  {
    Graph::Scope scope(graph, "block");
    LayerOptions frozen = options;
    frozen.norm = NormKind::kFrozen;
    Value y = relu(graph, norm_layer(graph, conv(x, "conv1", 3, 1), "bn1", frozen));
    y = norm_layer(graph, conv(y, "conv2", 3, 1), "bn2", frozen);
    x = relu(graph, add(graph, y, x));
  }
  const Value y = conv_layer(graph, x, {.name = "head", .channels = 1, .kernel = 8}, options);
  if (training) {
    graph.loss("head", y, 0.5f);  // one number: the window is the whole map
  } else {
    graph.output("y", y);
  }
  return graph;
}

TEST(PlanGolden, SmallNetwork) {
  const Plan training = plan(small_network(true), {});
  goldens::expect_text("plans/small_training.txt", to_text(training));
  PlanOptions options;
  options.training = false;
  options.layout = training.layout;
  goldens::expect_text("plans/small_inference.txt", to_text(plan(small_network(false), options)));
}

TEST(PlanGolden, SmallNetworkWithoutFusion) {
  PlanOptions options;
  options.disabled_fusions = {"frozen_norm", "add", "relu"};
  goldens::expect_text("plans/small_unfused.txt", to_text(plan(small_network(true), options)));
}

TEST(PlanGolden, RetinaNet) {
  const auto model = make_model(retinanet_options("resnet18", 4, NormKind::kFrozen, 3));
  const BatchShape shape{.images = 1, .height = 64, .width = 64, .max_boxes = 8};
  Graph graph;
  model->training(graph, shape);
  for (int ranks : {1, 4}) {
    PlanOptions options;
    options.ranks = ranks;
    goldens::expect_text("plans/retinanet_r18_64x64_ranks" + std::to_string(ranks) + ".txt",
                         to_text(plan(graph, options)));
  }
}

}  // namespace
}  // namespace models::testing
