#include "trainer/data/coco_json.h"

#include <fmt/format.h>

#include <map>
#include <stdexcept>
#include <utility>

#include "comm/error.h"
#include "trainer/data/anomalies.h"
#include "trainer/data/coco_sax.h"

namespace trainer {
namespace {

void check_size(std::int64_t own_height, std::int64_t own_width, std::int64_t height,
                std::int64_t width) {
  if (own_height != height || own_width != width) {
    throw std::invalid_argument(fmt::format("mask of {} x {} pixels for an image of {} x {}",
                                            own_height, own_width, height, width));
  }
}

struct ToRle {
  std::int64_t height, width;

  Rle operator()(std::monostate) const { throw std::invalid_argument("no mask"); }
  Rle operator()(const Polygons& polygons) const {
    std::vector<Rle> parts;
    for (const std::vector<double>& polygon : polygons) {
      parts.push_back(rle_from_polygon(polygon, height, width));
    }
    return rle_union(parts);
  }
  Rle operator()(const UncompressedRle& rle) const {
    check_size(rle.height, rle.width, height, width);
    return rle_from_counts(rle.counts, height, width);
  }
  Rle operator()(const CompressedRle& rle) const {
    check_size(rle.height, rle.width, height, width);
    return rle_from_string(rle.counts, height, width);
  }
};

CocoAnnotation to_annotation(CocoEntry&& entry) {
  return {.id = *entry.id,
          .image_id = *entry.image_id,
          .category_id = *entry.category_id,
          .bbox = entry.bbox,
          .num_bbox_values = entry.num_bbox_values,
          .area = entry.area,
          .is_crowd = entry.is_crowd,
          .ignore = entry.ignore,
          .segmentation = std::move(entry.segmentation)};
}

}  // namespace

Rle to_rle(const Segmentation& segmentation, std::int64_t height, std::int64_t width) {
  return std::visit(ToRle{height, width}, segmentation);
}

void make_names_unique(std::vector<CocoCategory>& categories) {
  std::map<std::string, int> counts;
  for (const CocoCategory& category : categories) ++counts[category.name];
  for (CocoCategory& category : categories)
    if (!category.name.empty() && counts[category.name] > 1)
      category.name += fmt::format(" ({})", category.id);
}

CocoAnnotations read_coco_annotations(const std::filesystem::path& path,
                                      const CocoReadOptions& options) {
  CocoAnnotations coco;
  const CocoSource source{path, CocoFileKind::kAnnotations, options.segmentations,
                          options.problems};
  const auto lists = parse_coco_file(source, [&](CocoList list, std::size_t, CocoEntry&& entry) {
    switch (list) {
      case CocoList::kImages:
        coco.images.push_back({*entry.id, std::move(entry.file_name), entry.width, entry.height});
        break;
      case CocoList::kAnnotations:
        coco.annotations.push_back(to_annotation(std::move(entry)));
        break;
      case CocoList::kCategories:
        coco.categories.push_back({*entry.id, std::move(entry.name)});
        break;
    }
  });
  if (lists.size() < 3) {
    const char* missing = !lists.contains(CocoList::kImages)        ? "images"
                          : !lists.contains(CocoList::kAnnotations) ? "annotations"
                                                                    : "categories";
    comm::fail(comm::ExitCode::kData, "{}: no list \"{}\"; a COCO instances file has one",
               trainer::quoted(path.string()), missing);
  }
  return coco;
}

}  // namespace trainer
