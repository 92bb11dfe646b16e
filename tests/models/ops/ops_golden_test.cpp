// Ops against PyTorch's on small tensors (tests/peers/op_goldens.py), forward and backward, in
// every physical order.
#include <map>

#include "models/ops/batch_norm.h"
#include "models/ops/conv2d.h"
#include "models/ops/conv_transpose2d.h"
#include "models/ops/cross_entropy.h"
#include "models/ops/detection_loss.h"
#include "models/ops/group_norm.h"
#include "models/ops/max_pool.h"
#include "models/ops/resize_bilinear.h"
#include "models/ops/upsample_nearest.h"
#include "tests/models/golden_json.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

using Builder = std::function<void(Graph&, const std::vector<Value>&, const rapidjson::Value&)>;
struct Rule {
  std::vector<std::string> inputs;
  Builder build;
  bool adds_bias = true;  // false: the op has none, unlike the golden's
};

int integer(const rapidjson::Value& attributes, const char* name) {
  return attributes[name].GetInt();
}

std::map<std::string, Rule> rules() {
  using Values = std::vector<Value>;
  using Json = rapidjson::Value;
  std::map<std::string, Rule> all;
  all["upsample_nearest"] = {{"x"}, [](Graph& g, const Values& v, const Json& a) {
                               upsample_nearest(g, v[0], a["size"][0].GetInt(),
                                                a["size"][1].GetInt());
                             }};
  all["max_pool"] = {{"x"}, [](Graph& g, const Values& v, const Json& a) {
                       max_pool(g, v[0], integer(a, "kernel"), integer(a, "stride"),
                                integer(a, "padding"));
                     }};
  all["resize_bilinear"] = {{"x"}, [](Graph& g, const Values& v, const Json& a) {
                              resize_bilinear(g, v[0], a["size"][0].GetInt(),
                                              a["size"][1].GetInt());
                            }};
  all["conv_transposed"] = {{"x", "weight"},
                            [](Graph& g, const Values& v, const Json& a) {
                              conv_transpose2d(g, v[0], v[1],
                                               {integer(a, "stride"), integer(a, "padding")});
                            },
                            false};
  all["conv"] = {{"x", "weight", "bias"}, [](Graph& g, const Values& v, const Json& a) {
                   conv2d(g, v[0], v[1], v[2],
                          {integer(a, "stride"), integer(a, "padding"), integer(a, "dilation")});
                 }};
  all["group_norm"] = {{"x", "weight", "bias"}, [](Graph& g, const Values& v, const Json& a) {
                         group_norm(g, v[0], v[1], v[2], integer(a, "groups"), a["eps"].GetFloat());
                       }};
  all["batch_norm"] = {
      {"x", "weight", "bias"}, [](Graph& g, const Values& v, const Json& a) {
        const Shape c = g.shape(v[1]);
        batch_norm(g, v[0], {v[1], v[2], constant(g, "mean", c), constant(g, "variance", c)},
                   a["eps"].GetFloat());
      }};
  return all;
}

class OpsGolden : public ::testing::TestWithParam<DeviceCase> {
 protected:
  OpsGolden() : golden_(read_golden("ops.json")), seed_(golden_["seed"].GetUint64()) {}

  static void expect_near(const std::vector<float>& got, const rapidjson::Value& golden) {
    const auto expected = numbers(golden["values"]);
    ASSERT_EQ(got.size(), expected.size());
    double scale = 1;
    for (double e : expected) scale = std::max(scale, std::abs(e));
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], expected[i], 5e-6 * scale) << i;
  }

  void check(const std::string& name, const rapidjson::Value& golden, const Rule& rule) {
    Graph graph;
    std::vector<Value> values;
    std::vector<KernelInput> inputs;
    for (const auto& input : rule.inputs) {
      const auto& described = golden["inputs"][input.c_str()];
      const Shape shape = shape_of(described["shape"]);
      values.push_back(graph.input(input, {Type::kF32, shape}));
      inputs.push_back(
          {shape, formula_values(seed_, name + ":" + input, described), {}, input != "x"});
    }
    rule.build(graph, values, golden["attributes"]);
    const bool plain = graph.nodes().back().op->layout() == LayoutRule::kPlain;
    for (int block : plain ? std::vector{1} : channel_blocks(GetParam())) {
      SCOPED_TRACE(name + " block " + std::to_string(block));
      KernelRun run(GetParam(), graph, inputs, block);
      run.forward();
      auto y = run.output();
      if (!rule.adds_bias) add_bias(y, name, golden);
      expect_near(y, golden["outputs"]["y"]);
      run.backward(formula_values(seed_, name + ":dy", golden["inputs"]["dy"]),
                   std::vector(inputs.size(), GradientMode::kOverwrite));
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        expect_near(run.gradient(static_cast<int>(i)),
                    golden["outputs"][("d" + rule.inputs[i]).c_str()]);
      }
      EXPECT_TRUE(run.padding_is_zero());
      if (golden["outputs"].HasMember("running_var_after")) expect_statistics(name, golden, run);
    }
  }

  void add_bias(std::vector<float>& y, const std::string& name, const rapidjson::Value& golden) {
    const auto bias = formula_values(seed_, name + ":bias", golden["inputs"]["bias"]);
    const Shape shape = shape_of(golden["outputs"]["y"]["shape"]);
    for (std::size_t i = 0; i < y.size(); ++i) {
      y[i] += bias[i / static_cast<std::size_t>(shape[2] * shape[3]) % bias.size()];
    }
  }

  // running <- 0.9 running + 0.1 of the micro-batch's
  void expect_statistics(const std::string& name, const rapidjson::Value& golden,
                         const KernelRun& run) {
    for (const auto& [key, output] :
         std::map<std::string, int>{{"running_mean", 1}, {"running_var", 3}}) {
      auto running = formula_values(seed_, name + ":" + key, golden["inputs"][key.c_str()]);
      const auto batch = run.output(output);
      for (std::size_t i = 0; i < running.size(); ++i) {
        running[i] = 0.9f * running[i] + 0.1f * batch[i];
      }
      expect_near(running, golden["outputs"][(key + "_after").c_str()]);
    }
  }

  rapidjson::Document golden_;
  std::uint64_t seed_;
};

TEST_P(OpsGolden, ForwardAndBackward) {
  const auto known = rules();
  std::map<std::string, int> seen;
  for (const auto& [name, golden] : golden_["cases"].GetObject()) {
    const auto rule = known.find(golden["op"].GetString());
    if (rule == known.end()) continue;
    ++seen[rule->first];
    check(name.GetString(), golden, rule->second);
  }
  for (const auto& [op, rule] : known) EXPECT_GT(seen[op], 0) << op;
}

// torchvision's focal loss takes several labels an anchor: here each is an anchor of one class.
TEST_P(OpsGolden, FocalLoss) {
  for (const char* name : {"focal", "focal_large"}) {
    const auto& golden = golden_["cases"][name];
    const auto targets = numbers(golden["inputs"]["targets"]["values"]);
    const auto count = static_cast<std::int64_t>(targets.size());
    auto grid = std::make_shared<AnchorGrid>();
    grid->levels = {{1, count, 0}};
    grid->per_cell = 1;
    grid->boxes.resize(targets.size() * 4);
    std::vector<std::int32_t> classes;
    for (double t : targets) classes.push_back(t != 0 ? 0 : kBackground);
    Graph graph;
    const Shape shape = {1, 1, 1, count};
    const Value x = graph.input("x", {Type::kF32, shape});
    const Matches matches{graph.input("target", {Type::kI32, {1, count}}),
                          {},
                          graph.input("scale", {Type::kF32, {1}})};
    focal_loss(graph, grid, {x}, matches, 1);
    for (int block : channel_blocks(GetParam())) {
      SCOPED_TRACE(name + std::to_string(block));
      KernelRun run(
          GetParam(), graph,
          {{shape, formula_values(seed_, std::string(name) + ":x", golden["inputs"]["x"])},
           {{1, count}, {}, classes},
           {{1}, {1.0f}}},
          block);
      run.forward();
      expect_near(run.output(), golden["outputs"]["loss"]);
      run.backward({1.0f}, {GradientMode::kOverwrite, GradientMode::kNone, GradientMode::kNone});
      expect_near(run.gradient(0), golden["outputs"]["dx"]);
    }
  }
}

TEST_P(OpsGolden, CrossEntropy) {
  for (const char* name : {"cross_entropy", "cross_entropy_large"}) {
    const auto& golden = golden_["cases"][name];
    const Shape shape = shape_of(golden["inputs"]["x"]["shape"]);
    const Shape label_shape = shape_of(golden["inputs"]["targets"]["shape"]);
    const auto targets = numbers(golden["inputs"]["targets"]["values"]);
    const std::vector<std::int32_t> labels(targets.begin(), targets.end());
    Graph graph;
    cross_entropy(graph, graph.input("x", {Type::kF32, shape}),
                  graph.input("labels", {Type::kI32, label_shape}),
                  {.ignore = golden["attributes"]["ignore"].GetInt()});
    for (int block : channel_blocks(GetParam())) {
      SCOPED_TRACE(name + std::to_string(block));
      const auto x = formula_values(seed_, std::string(name) + ":x", golden["inputs"]["x"]);
      KernelRun run(GetParam(), graph, {{shape, x}, {label_shape, {}, labels}}, block);
      run.forward();
      expect_near(run.output(), golden["outputs"]["loss"]);
      run.backward({1.0f}, {GradientMode::kOverwrite, GradientMode::kNone});
      expect_near(run.gradient(0), golden["outputs"]["dx"]);
      EXPECT_TRUE(run.padding_is_zero());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, OpsGolden, ::testing::ValuesIn(devices()), device_name);

}  // namespace
}  // namespace models::testing
