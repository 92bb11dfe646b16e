// Properties of whole steps: they allocate nothing, give the same bits again, agree between thread
// counts and between training and inference.
#include <omp.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/models/golden_fixture.h"

namespace {
// Host allocations of a page and more, by whomever: small ones are the business of libraries.
std::atomic<std::int64_t> large_allocations{0};
void* counted(std::size_t size, std::size_t alignment) {
  if (size >= 4096) ++large_allocations;
  void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (!memory) throw std::bad_alloc();
  return memory;
}
}  // namespace

void* operator new(std::size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace models::testing {
namespace {

constexpr BatchShape kShape{.images = 2, .height = 64, .width = 64, .max_boxes = 2};

// A small network of every kind of layer, bound on some threads.
struct Step {
  Step(NormKind norm, bool training, int threads, bool direct = true)
      : stream(comm::Device{}, threads) {
    omp_set_num_threads(threads);  // oneDNN's; it plans for them when a kernel is made
    Graph graph;
    const auto model = make_model(retinanet_options("resnet18", 4, norm, 5));
    training ? model->training(graph, kShape) : model->inference(graph, kShape);
    Plan p = plan(graph, {.training = training});
    storage = std::make_unique<ParameterStorage>(p.layout, comm::Device{});
    executable = std::make_unique<Executable>(std::move(p), *storage,
                                              BindOptions{comm::Device{}, stream.view(), direct});
    for (const ParameterSlot& slot : storage->layout->slots) {
      const Shape& shape = slot.parameter.shape;
      const auto v = goldens::state(1, slot.parameter.name,
                                    {shape.extents.data(), static_cast<std::size_t>(shape.rank)});
      std::copy(v.begin(), v.end(), storage->parameter(slot.parameter.name).f32());
    }
    fill("image", values("image", 2 * 3 * 64 * 64));
    fill("boxes", std::vector<float>{8, 8, 40, 44, 30, 4, 60, 60, 10, 20, 50, 40, 0, 0, 0, 0});
    fill("labels", std::vector<std::int32_t>{1, 2, 3, 0});
    fill("count", std::vector<std::int32_t>{2, 1});
  }
  template <typename T>
  void fill(const std::string& name, const std::vector<T>& v) {
    const Tensor tensor = executable->input(name);
    if (tensor) std::copy(v.begin(), v.end(), tensor.as<T>());
  }
  void run() {
    omp_set_num_threads(stream.view().num_threads());
    StepObserver none;
    executable->run(none, ++version);
  }
  std::span<const float> gradients() const {
    return {reinterpret_cast<const float*>(storage->gradients.bytes().data()),
            storage->gradients.size_bytes() / 4};
  }
  comm::Stream stream;
  std::unique_ptr<ParameterStorage> storage;
  std::unique_ptr<Executable> executable;
  std::int64_t version = 0;
};

std::string norm_name(const ::testing::TestParamInfo<NormKind>& info) {
  return info.param == NormKind::kFrozen  ? "frozen"
         : info.param == NormKind::kBatch ? "batch"
         : info.param == NormKind::kSync  ? "sync"
                                          : "group";
}

class WholeStep : public ::testing::TestWithParam<NormKind> {};

TEST_P(WholeStep, AllocatesNothingAfterWarmUp) {
  Step step(GetParam(), true, 2, false);
  step.run();
  const std::int64_t buffers = comm::allocation_count(), large = large_allocations;
  for (int i = 0; i < 3; ++i) step.run();
  EXPECT_EQ(comm::allocation_count(), buffers);
  EXPECT_EQ(large_allocations, large);
}

// Whatever ran before, here or not at all, a step is a function of its inputs.
TEST_P(WholeStep, GivesTheSameBitsAgain) {
  Step first(GetParam(), true, 1), second(GetParam(), true, 1);
  first.run();
  const std::vector<float> once(first.gradients().begin(), first.gradients().end());
  first.fill("image", values("another", 2 * 3 * 64 * 64));
  first.run();
  EXPECT_FALSE(std::equal(once.begin(), once.end(), first.gradients().begin()));
  first.fill("image", values("image", 2 * 3 * 64 * 64));
  first.run();
  second.run();
  EXPECT_TRUE(std::equal(once.begin(), once.end(), first.gradients().begin()));
  EXPECT_TRUE(std::equal(once.begin(), once.end(), second.gradients().begin()));
}

TEST_P(WholeStep, ThreadsChangeRoundingAtMost) {
  Step one(GetParam(), true, 1), two(GetParam(), true, 2);
  one.run();
  two.run();
  double norm = 0, difference = 0;
  for (std::size_t i = 0; i < one.gradients().size(); ++i) {
    const double a = one.gradients()[i], b = two.gradients()[i];
    norm += a * a;
    difference += (a - b) * (a - b);
  }
  EXPECT_GT(norm, 0);
  EXPECT_LT(std::sqrt(difference / norm), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Norms, WholeStep,
                         ::testing::Values(NormKind::kFrozen, NormKind::kBatch, NormKind::kSync,
                                           NormKind::kGroup),
                         norm_name);

// With a frozen norm the network of inference is the network of training.
TEST(Inference, IsTheForwardPassOfTraining) {
  std::vector<std::vector<float>> seen;
  for (bool training : {true, false}) {
    Graph graph;
    const auto model = make_model(retinanet_options("resnet18", 4, NormKind::kFrozen, 5));
    training ? model->training(graph, kShape) : model->inference(graph, kShape);
    const auto nodes = graph.nodes();
    std::vector<std::string> names;
    for (const Node& node : nodes) {
      const bool head = node.scope.ends_with("cls_logits") || node.scope.ends_with("bbox_reg");
      if (!head) continue;
      names.push_back("head" + std::to_string(names.size()));
      graph.output(names.back(), node.outputs[0]);
    }
    ASSERT_EQ(names.size(), 10u);
    Program program(graph, training, DeviceCase{});
    fill_parameters(program, 1);
    program.set_input("image", values("image", 2 * 3 * 64 * 64));
    program.run();
    std::vector<float>& all = seen.emplace_back();
    for (const auto& name : names) {
      const auto v = program.output(name);
      all.insert(all.end(), v.begin(), v.end());
    }
  }
  EXPECT_EQ(seen[0], seen[1]);
}

// Winograd where it pays: another algorithm, the same network.
TEST(Convolution, AutoAgreesWithDirect) {
  Step direct(NormKind::kFrozen, true, 1, true), fast(NormKind::kFrozen, true, 1, false);
  direct.run();
  fast.run();
  for (const char* name : {"classification", "bbox_regression"}) {
    const float a = direct.executable->output(name).f32()[0];
    EXPECT_NEAR(fast.executable->output(name).f32()[0], a, 1e-4 * a) << name;
  }
  const auto lines = direct.executable->implementations();
  EXPECT_TRUE(std::is_sorted(lines.begin(), lines.end()));
  EXPECT_GT(lines.size(), 20u);
  for (const auto& line : lines) EXPECT_EQ(line.find("wino"), line.npos) << line;
}

}  // namespace
}  // namespace models::testing
