// Articles 2 and 3 on the cross entropy: "y - log p", and a softmax in front of a loss that expects
// logits. Ours is the loss of the classifiers' graphs.
#include <gtest/gtest.h>

#include <cmath>

#include "models/model.h"
#include "models/ops/cross_entropy.h"
#include "tests/models/ops/op_fixture.h"

namespace models::testing {
namespace {

constexpr int kClasses = 10;

std::vector<double> softmax(const std::vector<double>& z) {
  std::vector<double> p;
  double sum = 0;
  for (double x : z) sum += std::exp(x);
  for (double x : z) p.push_back(std::exp(x) / sum);
  return p;
}

struct Result {
  double loss;
  std::vector<float> gradient;
};

Result ours(const std::vector<double>& logits, int label) {
  Graph graph;
  const Value z = variable(graph, "z", {1, kClasses, 1, 1});
  const Value t = graph.input("label", {Type::kI32, {1}});
  graph.loss("classification", cross_entropy(graph, z, t, {}), 1.0f);
  Program program(graph, true, DeviceCase{});
  program.set_parameter("z", {logits.begin(), logits.end()});
  program.set_input("label", std::vector<std::int32_t>{label});
  program.run();
  return {program.output("classification")[0], program.gradient("z")};
}

// Sure of class 3 by `margin`.
std::vector<double> sure(double margin) {
  std::vector<double> z(kClasses, 0.0);
  z[3] = margin;
  return z;
}

TEST(CrossEntropy, IsMinusLogP) {
  for (double margin : {-3.0, 0.0, 2.0}) {
    const double p = softmax(sure(margin))[3];
    EXPECT_NEAR(ours(sure(margin), 3).loss, -std::log(p), 1e-6);
    EXPECT_GT(std::abs((1 - std::log(p)) - ours(sure(margin), 3).loss), 0.99);  // y - log p
  }
}

// Probabilities taken for logits lie in [0, 1], so a perfect answer still costs log(1 + 9/e), 1.46,
// and a wrong one at most log(1 + 9 e).. the loss cannot tell good from better.
TEST(CrossEntropy, SoftmaxTwiceNeverReachesZero) {
  const double floor = std::log(1 + (kClasses - 1) / std::exp(1.0));
  EXPECT_NEAR(floor, 1.4612, 1e-4);
  for (double margin : {5.0, 20.0, 50.0}) {
    EXPECT_GE(ours(softmax(sure(margin)), 3).loss, floor - 1e-6) << margin;
    EXPECT_LT(ours(sure(margin), 3).loss, 0.06) << margin;
  }
}

// A sure and wrong answer: the gradient that corrects it is 1, behind a second softmax nothing.
TEST(CrossEntropy, SoftmaxTwiceDoesNotCorrectSureErrors) {
  const std::vector<double> z = sure(20);
  EXPECT_NEAR(ours(z, 7).gradient[7], -1, 1e-4);
  const auto twice = [&](double h) {
    std::vector<double> moved = z;
    moved[7] += h;
    const std::vector<double> p = softmax(softmax(moved));
    return -std::log(p[7]);
  };
  EXPECT_LT(std::abs(twice(1e-3) - twice(-1e-3)) / 2e-3, 1e-6);
}

// No classifier ends in a softmax: the loss reads what the last linear layer gives.
TEST(CrossEntropy, ClassifiersEndInLogits) {
  ModelOptions options;
  options.name = "mlp";
  options.layers = {784, 64, 64, kClasses};
  options.num_classes = kClasses;
  Graph graph;
  make_model(options)->inference(graph, {.images = 1, .channels = 1, .height = 28, .width = 28});
  const Value logits = graph.outputs()[0].value;
  EXPECT_EQ(graph.nodes()[graph.values()[logits.id].producer].op->name(), "linear");
}

}  // namespace
}  // namespace models::testing
