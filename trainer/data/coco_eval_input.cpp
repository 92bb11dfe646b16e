#include "trainer/data/coco_eval_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <unordered_map>

#include "comm/error.h"

namespace trainer {
namespace {

using comm::ExitCode;
using comm::fail;

using ImagesById = std::unordered_map<std::int64_t, const CocoImage*>;

ImagesById index_images(const CocoAnnotations& annotations) {
  ImagesById images;
  for (const CocoImage& image : annotations.images) {
    if (!images.emplace(image.id, &image).second) {
      fail(ExitCode::kData, "image id {} occurs twice in the annotations; correct the file",
           image.id);
    }
  }
  return images;
}

// `what`: "annotation 7" or "detection number 3".
const CocoImage& image_of(const ImagesById& images, std::int64_t id, const std::string& what) {
  const auto image = images.find(id);
  if (image == images.end()) {
    fail(ExitCode::kData, "{}: image id {} is not in the annotations' images", what, id);
  }
  return *image->second;
}

void check_category(const CocoEvalData& data, std::int64_t id, const std::string& what) {
  if (!std::binary_search(data.category_ids.begin(), data.category_ids.end(), id)) {
    fail(ExitCode::kData, "{}: category id {} is not in the annotations' categories", what, id);
  }
}

template <typename Draw>
Rle mask_of(const char* member, const std::string& what, const Draw& draw) {
  try {
    return draw();
  } catch (const std::invalid_argument& error) {
    fail(ExitCode::kData, "{}: {}: {}; correct the file", what, member, error.what());
  }
}

Rle mask_of(const Segmentation& segmentation, const CocoImage& image, const std::string& what) {
  return mask_of("segmentation", what,
                 [&] { return to_rle(segmentation, image.height, image.width); });
}

Rle mask_of(const std::array<double, 4>& box, const CocoImage& image, const std::string& what) {
  return mask_of("bbox", what, [&] { return rle_from_box(box, image.height, image.width); });
}

void add_categories(const CocoAnnotations& annotations, CocoEvalData& data) {
  std::vector<CocoCategory> categories = annotations.categories;
  std::stable_sort(categories.begin(), categories.end(),
                   [](const CocoCategory& a, const CocoCategory& b) { return a.id < b.id; });
  make_names_unique(categories);
  for (const CocoCategory& category : categories) {
    if (!data.category_ids.empty() && data.category_ids.back() == category.id) {
      fail(ExitCode::kData, "category id {} occurs twice in the annotations; correct the file",
           category.id);
    }
    data.category_ids.push_back(category.id);
    data.category_names.push_back(category.name.empty() ? fmt::format("{}", category.id)
                                                        : category.name);
  }
}

EvalObject to_object(const CocoAnnotation& annotation, const CocoImage& image, IouType type) {
  const std::string what = fmt::format("annotation {}", annotation.id);
  EvalObject object{annotation.image_id, annotation.category_id, annotation.bbox,
                    annotation.area,     annotation.is_crowd,    {}};
  if (type == IouType::kMask) {
    object.mask = mask_of(annotation.segmentation, image, what);
    if (std::isnan(object.area)) object.area = static_cast<double>(rle_area(object.mask));
  } else {
    if (!annotation.has_valid_bbox()) {
      fail(ExitCode::kData, "{}: bbox [{}] ({} values) is no box; correct the file", what,
           fmt::join(annotation.bbox, ", "), std::max<std::int64_t>(annotation.num_bbox_values, 0));
    }
    if (std::isnan(object.area)) object.area = object.box[2] * object.box[3];
  }
  return object;
}

EvalDetection to_detection(const CocoDetection& detection, const CocoImage& image, IouType type,
                           const std::string& what) {
  EvalDetection result{
      detection.image_id, detection.category_id, detection.bbox, 0, detection.score, {}};
  const bool has_mask = !std::holds_alternative<std::monostate>(detection.segmentation);
  if (detection.has_bbox && (detection.bbox[2] < 0 || detection.bbox[3] < 0)) {
    fail(ExitCode::kData, "{}: bbox [{}] has a negative size; it is x, y, width, height", what,
         fmt::join(detection.bbox, ", "));
  }
  if (type == IouType::kMask || !detection.has_bbox) {
    if (image.height == 0 || image.width == 0) {
      fail(ExitCode::kData,
           "{}: masks need the size of image {}, which the annotations don't state", what,
           image.id);
    }
    result.mask = has_mask ? mask_of(detection.segmentation, image, what)
                           : mask_of(detection.bbox, image, what);
  }
  if (!detection.has_bbox) result.box = rle_box(result.mask);
  result.area = detection.has_bbox ? result.box[2] * result.box[3]
                                   : static_cast<double>(rle_area(result.mask));
  return result;
}

}  // namespace

CocoEvalData coco_eval_data(const CocoAnnotations& annotations,
                            const std::vector<CocoDetection>& detections, IouType type) {
  CocoEvalData data;
  add_categories(annotations, data);
  const ImagesById images = index_images(annotations);
  for (const CocoImage& image : annotations.images) data.image_ids.push_back(image.id);

  std::unordered_map<std::int64_t, bool> seen;
  for (const CocoAnnotation& annotation : annotations.annotations) {
    const std::string what = fmt::format("annotation {}", annotation.id);
    if (!seen.emplace(annotation.id, true).second) {
      fail(ExitCode::kData, "annotation id {} occurs twice; correct the file", annotation.id);
    }
    const CocoImage& image = image_of(images, annotation.image_id, what);
    check_category(data, annotation.category_id, what);
    data.objects.push_back(to_object(annotation, image, type));
  }
  for (std::size_t i = 0; i < detections.size(); ++i) {
    const std::string what = fmt::format("detection number {} (from 0)", i);
    const CocoImage& image = image_of(images, detections[i].image_id, what);
    check_category(data, detections[i].category_id, what);
    data.detections.push_back(to_detection(detections[i], image, type, what));
  }
  return data;
}

}  // namespace trainer
