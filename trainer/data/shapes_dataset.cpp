#include <xxhash.h>

#include <memory>
#include <mutex>
#include <utility>

#include "trainer/data/dataset_files.h"
#include "trainer/data/formats.h"
#include "trainer/data/shapes.h"
#include "trainer/data/size_buckets.h"

namespace trainer {
namespace {

// The built-in set: drawn when asked for, the same for every run. Image i has the i-th size of
// data.size, in turn. Splits differ by the seed, which is a hash of the split's name.
// Invariant: an image's objects are written once, under its flag, before anyone reads them.
class ShapesDataset : public Dataset {
 public:
  explicit ShapesDataset(const FormatInput& input)
      : sizes_(size_buckets(input.config)),
        seed_(XXH3_64bits(input.split_name.data(), input.split_name.size())),
        samples_(static_cast<std::size_t>(
            input.split.limit.value_or(input.split_name == "train" ? 512 : 128))),
        drawn_(std::make_unique<std::once_flag[]>(samples_.size())) {
    source_ = "shapes";
    ignore_ = input.config.ignore;
    number_classes({std::begin(kShapesClasses), std::end(kShapesClasses)}, true);
    if (static_cast<std::size_t>(input.config.max_boxes) < kMaxShapes && input.fields.boxes)
      comm::fail(comm::ExitCode::kData,
                 "shapes: {} boxes are more than data.max_boxes {}; raise it", kMaxShapes,
                 input.config.max_boxes);
    for (std::size_t i = 0; i < samples_.size(); ++i) {
      samples_[i].name = fmt::format("shapes/{}/{}", input.split_name, i);
      samples_[i].image_id = static_cast<std::int64_t>(i) + 1;
      const Size size = size_of(static_cast<std::int64_t>(i));
      samples_[i].width = size.width;
      samples_[i].height = size.height;
    }
    Fingerprint hash;
    for (const std::int64_t value : {static_cast<std::int64_t>(seed_), size()}) hash.add(value);
    for (const Size& size : sizes_) {
      hash.add(std::int64_t{size.width});
      hash.add(std::int64_t{size.height});
    }
    fingerprint_ = hash.value();
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }

  const Sample& sample(std::int64_t index) const override {
    std::call_once(drawn_[static_cast<std::size_t>(index)],
                   [&] { set_objects(index, draw_pixels(index)); });
    return samples_[static_cast<std::size_t>(index)];
  }

  ShrunkImage image(std::int64_t index, const NeededSize& needed) const override {
    ShrunkImage result;
    ShapesSample drawn = draw_pixels(index);
    std::call_once(drawn_[static_cast<std::size_t>(index)], [&] { set_objects(index, drawn); });
    result.image = std::move(drawn.image);
    result.info.width = result.image.width;
    result.info.height = result.image.height;
    if (needed) needed({.width = result.image.width, .height = result.image.height});
    return result;
  }

  CocoAnnotations ground_truth() const override;

 protected:
  LabelImage decode_label_map(std::int64_t index) const override {
    return draw_pixels(index).labels;
  }

 private:
  Size size_of(std::int64_t index) const {
    return sizes_[static_cast<std::size_t>(index) % sizes_.size()];
  }
  ShapesSample draw_pixels(std::int64_t index) const {
    const Size size = size_of(index);
    return draw_shapes(seed_, static_cast<std::uint64_t>(index), size.width, size.height);
  }
  void set_objects(std::int64_t index, const ShapesSample& drawn) const;

  std::vector<Size> sizes_;
  std::uint64_t seed_;
  // Objects are filled in by the first draw.
  mutable std::vector<Sample> samples_;
  std::unique_ptr<std::once_flag[]> drawn_;
};

void ShapesDataset::set_objects(std::int64_t index, const ShapesSample& drawn) const {
  std::vector<Object>& objects = samples_[static_cast<std::size_t>(index)].objects;
  for (const DrawnShape& shape : drawn.shapes) {
    Object object;
    object.box = shape.box;
    object.label = shape.label;
    object.category_id = shape.label;
    object.area = (shape.box[2] - shape.box[0]) * (shape.box[3] - shape.box[1]);
    objects.push_back(object);
  }
}

CocoAnnotations ShapesDataset::ground_truth() const {
  CocoAnnotations result;
  for (std::size_t k = 0; k < class_names_.size(); ++k)
    result.categories.push_back({category_ids_[k], class_names_[k]});
  for (std::int64_t i = 0; i < size(); ++i) {
    const Sample& sample = this->sample(i);
    result.images.push_back({sample.image_id, sample.name, sample.width, sample.height});
    for (const Object& object : sample.objects) {
      const auto& [x0, y0, x1, y1] = object.box;
      CocoAnnotation annotation;
      annotation.id = static_cast<std::int64_t>(result.annotations.size()) + 1;
      annotation.image_id = sample.image_id;
      annotation.category_id = object.category_id;
      annotation.bbox = {x0, y0, x1 - x0, y1 - y0};
      annotation.num_bbox_values = 4;
      annotation.area = object.area;
      result.annotations.push_back(std::move(annotation));
    }
  }
  return result;
}

}  // namespace

std::unique_ptr<Dataset> open_shapes(const FormatInput& input) {
  return std::make_unique<ShapesDataset>(input);
}

}  // namespace trainer
