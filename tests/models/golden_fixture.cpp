#include "tests/models/golden_fixture.h"

#include <algorithm>

namespace models::testing {

ModelOptions retinanet_options(const std::string& backbone, int num_classes, NormKind norm,
                               int trainable_stages) {
  ModelOptions options;
  options.name = "retinanet";
  options.backbone = backbone;
  options.num_classes = num_classes;
  options.norm = norm;
  options.trainable_stages = trainable_stages;
  options.anchor_sizes = {32, 64, 128, 256, 512};
  options.anchor_ratios = {0.5, 1.0, 2.0};
  return options;
}

ModelOptions retinanet_options(const rapidjson::Value& c) {
  const bool frozen = c["norm"] == "frozen";
  return retinanet_options(c["backbone"].GetString(), c["num_classes"].GetInt(),
                           frozen ? NormKind::kFrozen : NormKind::kBatch,
                           c["trainable_stages"].GetInt());
}

BatchShape batch_shape(const rapidjson::Value& c) {
  BatchShape shape;
  shape.images = c["targets"].Size();
  shape.height = c["height"].GetInt();
  shape.width = c["width"].GetInt();
  for (const auto& target : c["targets"].GetArray()) {
    shape.max_boxes = std::max<std::int64_t>(shape.max_boxes, target["boxes"].Size());
  }
  return shape;
}

std::map<std::string, std::string> state_dict(const Graph& graph) {
  std::map<std::string, std::string> state;
  for (const Parameter& p : graph.parameters()) state[p.name] = to_string(p.shape);
  for (const std::string& counter : graph.counters()) state[counter] = to_string(Shape{});
  return state;
}

std::int64_t num_parameters(const Graph& graph) {
  std::int64_t n = 0;
  for (const Parameter& p : graph.parameters()) {
    if (p.kind != ParameterKind::kFixed && p.kind != ParameterKind::kStatistic) {
      n += p.shape.count();
    }
  }
  return n;
}

void fill_parameters(Program& program, std::uint64_t seed) {
  for (const ParameterSlot& slot : program.storage().layout->slots) {
    const Shape& shape = slot.parameter.shape;
    const std::span<const std::int64_t> extents(shape.extents.data(),
                                                static_cast<std::size_t>(shape.rank));
    program.set_parameter(slot.parameter.name, goldens::state(seed, slot.parameter.name, extents));
  }
}

void fill_images(Program& program, const rapidjson::Value& c) {
  std::vector<float> images;
  for (int i = 0; i < static_cast<int>(c["targets"].Size()); ++i) {
    const auto image = goldens::normalised_image(c["seed"].GetUint64(), i, c["height"].GetInt(),
                                                 c["width"].GetInt());
    images.insert(images.end(), image.begin(), image.end());
  }
  program.set_input("image", images);
}

void fill_targets(Program& program, const rapidjson::Value& c) {
  const BatchShape shape = batch_shape(c);
  std::vector<float> boxes(static_cast<std::size_t>(shape.images * shape.max_boxes * 4));
  std::vector<std::int32_t> labels(static_cast<std::size_t>(shape.images * shape.max_boxes));
  std::vector<std::int32_t> count;
  for (const auto& target : c["targets"].GetArray()) {
    const auto image = static_cast<std::int64_t>(count.size());
    std::size_t at = static_cast<std::size_t>(image * shape.max_boxes);
    for (rapidjson::SizeType i = 0; i < target["boxes"].Size(); ++i, ++at) {
      for (int j = 0; j < 4; ++j) boxes[at * 4 + j] = target["boxes"][i][j].GetFloat();
      labels[at] = target["labels"][i].GetInt();
    }
    count.push_back(static_cast<std::int32_t>(target["boxes"].Size()));
  }
  program.set_input("boxes", boxes);
  program.set_input("labels", labels);
  program.set_input("count", count);
}

}  // namespace models::testing
