#include "trainer/weights.h"

#include <gmock/gmock.h>

#include <numeric>

#include "comm/communicator_local.h"
#include "comm/error.h"
#include "models/graph/weight_tiles.h"
#include "models/model.h"
#include "tests/trainer/checkpoint/test_run.h"

namespace trainer {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

// The names of FCN on VGG16, small.
models::ParameterStorage fcn_storage() {
  const std::vector<models::Parameter> parameters = {
      {"backbone.features.0.weight", {2, 3, 3, 3}, models::ParameterKind::kWeight},
      {"fc6.weight", {4, 2, 2, 2}, models::ParameterKind::kWeight},
      {"fc6.bias", {4}, models::ParameterKind::kBias},
      {"fc7.weight", {4, 4, 1, 1}, models::ParameterKind::kWeight},
      {"score_fr.weight", {3, 4, 1, 1}, models::ParameterKind::kWeight}};
  return models::ParameterStorage(std::make_shared<const models::ParameterLayout>(
                                      models::make_parameter_layout(parameters, {}, 1)),
                                  comm::Device{});
}

Array filled(const std::vector<std::int64_t>& shape, float first) {
  Array array;
  array.shape = shape;
  std::int64_t count = 1;
  for (std::int64_t extent : shape) count *= extent;
  array.bytes.resize(static_cast<std::size_t>(count) * sizeof(float));
  auto* values = reinterpret_cast<float*>(array.bytes.data());
  for (std::int64_t i = 0; i < count; ++i) values[i] = first + static_cast<float>(i);
  return array;
}

std::vector<float> values_of(const models::ParameterStorage& storage, const std::string& name) {
  const models::Tensor tensor = storage.parameter(name);
  return {tensor.f32(), tensor.f32() + tensor.shape.count()};
}

const LoadOptions kBackbone = {.backbone = true, .prefix = "backbone.", .source = "vgg16.h5"};

// torchvision's VGG16: two linear layers become convolutions, the last one is of its classes.
TEST(LoadWeights, LinearLayersOfVggBecomeConvolutions) {
  models::ParameterStorage storage = fcn_storage();
  const TensorMap file = {{"features.0.weight", filled({2, 3, 3, 3}, 0)},
                          {"classifier.0.weight", filled({4, 8}, 100)},
                          {"classifier.0.bias", filled({4}, 7)},
                          {"classifier.3.weight", filled({4, 4}, 200)},
                          {"classifier.6.weight", filled({1000, 4}, 300)}};
  EXPECT_THAT(load_weights(storage, file, kBackbone), ElementsAre());
  EXPECT_EQ(values_of(storage, "fc6.weight")[31], 131);
  EXPECT_THAT(values_of(storage, "fc6.bias"), ElementsAre(7, 8, 9, 10));
  EXPECT_EQ(values_of(storage, "fc7.weight")[15], 215);
  EXPECT_THAT(values_of(storage, "score_fr.weight"), Each(0));
}

TEST(LoadWeights, ABackboneMayComeWithoutThem) {
  models::ParameterStorage storage = fcn_storage();
  const TensorMap file = {{"features.0.weight", filled({2, 3, 3, 3}, 1)}};
  EXPECT_THAT(load_weights(storage, file, kBackbone), ElementsAre());
  EXPECT_EQ(values_of(storage, "backbone.features.0.weight")[53], 54);
}

// 32s, 16s, 8s: each stage takes over what it shares with the one before, and lacks its own skip.
TEST(LoadWeights, StagesOfFcnTakeOverWhatTheyShare) {
  const auto storage_of = [](const std::string& head) {
    models::ModelOptions options;
    options.name = "fcn";
    options.backbone = "resnet18";
    options.head = head;
    options.num_classes = 3;
    models::Graph graph;
    models::make_model(options)->training(graph, {.images = 1, .height = 64, .width = 64});
    return models::ParameterStorage(models::plan(graph, {}).layout, comm::Device{});
  };
  const auto tensors_of = [](const models::ParameterStorage& storage, float first) {
    TensorMap tensors;
    for (const models::ParameterSlot& slot : storage.layout->slots) {
      const models::Shape& shape = slot.parameter.shape;
      tensors[slot.parameter.name] =
          filled({shape.extents.begin(), shape.extents.begin() + shape.rank}, first);
    }
    return tensors;
  };
  const TensorMap trained = tensors_of(storage_of("32s"), 5);
  models::ParameterStorage next = storage_of("16s");
  EXPECT_THROW(load_weights(next, trained, {}), comm::Error);
  EXPECT_THAT(load_weights(next, trained, {.partial = true}),
              UnorderedElementsAre("missing score_pool4.weight", "missing score_pool4.bias"));
  EXPECT_EQ(values_of(next, "score_fr.weight")[0], 5);
  models::ParameterStorage last = storage_of("8s");
  EXPECT_THAT(load_weights(last, tensors_of(next, 9), {.partial = true}),
              UnorderedElementsAre("missing score_pool3.weight", "missing score_pool3.bias"));
  EXPECT_EQ(values_of(last, "score_pool4.weight")[0], 9);
}

TEST(LoadWeights, OtherSizesAreRefused) {
  models::ParameterStorage storage = fcn_storage();
  const TensorMap file = {{"features.0.weight", filled({2, 3, 3, 3}, 1)},
                          {"classifier.0.weight", filled({4, 9}, 0)}};
  EXPECT_THROW(load_weights(storage, file, kBackbone), comm::Error);
}

// Shards of 1024 elements cut the second tensor, which may lie in tiles.
models::ParameterStorage tiled_storage(int tile, int ranks) {
  const std::vector<models::Parameter> parameters = {
      {"plain", {40, 3, 3, 3}, models::ParameterKind::kWeight},
      {"tiled", {32, 48, 3, 3}, models::ParameterKind::kWeight}};
  models::ParameterLayout layout = models::make_parameter_layout(parameters, {}, ranks);
  layout.slots[1].tile = tile;
  return models::ParameterStorage(std::make_shared<const models::ParameterLayout>(layout),
                                  comm::Device{});
}

// 1, 2, 3, ... by plain order, as the tensor lies.
std::vector<float> counted(const models::ParameterSlot& slot) {
  std::vector<float> plain(static_cast<std::size_t>(slot.size)), values(plain.size());
  std::iota(plain.begin(), plain.end(), 1.0f);
  models::to_tiles(plain, slot.parameter.shape, slot.tile, values);
  return values;
}

struct Saved {
  int tile, ranks;
};
class Orders : public ::testing::TestWithParam<std::tuple<Saved, Saved>> {};

TEST_P(Orders, AreFreeToChangeBetweenSaveAndLoad) {
  const auto [saved, loaded] = GetParam();
  const TestFolder run;
  OptimizerSetup setup;
  setup.rule.momentum = 0.9f;
  setup.num_micro_batches = 3;
  const comm::Stream stream(comm::Device{}, 1);
  comm::run_local(saved.ranks, [&, tile = saved.tile](comm::Communicator& communicator) {
    models::ParameterStorage storage = tiled_storage(tile, communicator.size());
    ShardedOptimizer optimizer(storage, communicator, stream, setup);
    Snapshot snapshot;
    for (const models::ParameterSlot& slot : storage.layout->slots) {
      std::ranges::copy(counted(slot), storage.parameter(slot.parameter.name).f32());
    }
    const std::int64_t step = 0;
    if (communicator.rank() == 0) {
      snapshot.model = model_arrays(*storage.layout, storage.parameters.bytes(), {}, step);
    }
    optimizer.for_each_state([&](const std::string& state, const std::string& tensor,
                                 std::int64_t begin, std::int64_t end, std::span<float> values) {
      const models::ParameterSlot& slot = storage.layout->slot(tensor);
      std::copy_n(counted(slot).begin() + begin, values.size(), values.begin());
      snapshot.optimizer.push_back({state, tensor, begin, end, values, slot.tile});
    });
    CheckpointStore(run, communicator).save_final(snapshot);
  });
  comm::run_local(loaded.ranks, [&, tile = loaded.tile](comm::Communicator& communicator) {
    models::ParameterStorage storage = tiled_storage(tile, communicator.size());
    ShardedOptimizer optimizer(storage, communicator, stream, setup);
    const std::optional<Checkpoint> found = newest_valid(run.path(), communicator, {});
    ASSERT_TRUE(found);
    const TensorMap model = found->model();
    const auto plain = model.at("tiled").floats();
    for (std::size_t i = 0; i < plain.size(); ++i) ASSERT_EQ(plain[i], static_cast<float>(i + 1));
    load_weights(storage, model, {});
    for (const models::ParameterSlot& slot : storage.layout->slots) {
      EXPECT_EQ(values_of(storage, slot.parameter.name), counted(slot));
    }
    load_state(optimizer, *storage.layout, *found);
    std::int64_t num_elements = 0;
    optimizer.for_each_state([&](const std::string&, const std::string& tensor, std::int64_t begin,
                                 std::int64_t end, std::span<float> values) {
      const std::vector<float> all = counted(storage.layout->slot(tensor));
      EXPECT_TRUE(std::equal(values.begin(), values.end(), all.begin() + begin)) << tensor;
      num_elements += end - begin;
    });
    communicator.all_reduce(std::span<std::int64_t>(&num_elements, 1), comm::Reduction::kSum);
    EXPECT_EQ(num_elements, 40 * 27 + 32 * 48 * 9);
  });
}

INSTANTIATE_TEST_SUITE_P(
    LoadState, Orders,
    ::testing::Combine(::testing::Values(Saved{16, 1}, Saved{16, 3}, Saved{1, 2}),
                       ::testing::Values(Saved{16, 2}, Saved{1, 1}, Saved{1, 3})));

}  // namespace
}  // namespace trainer
