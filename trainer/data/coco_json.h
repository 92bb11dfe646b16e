#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "trainer/eval/mask_rle.h"

namespace trainer {

// A mask as a COCO file states it, before any check against its image.
using Polygons = std::vector<std::vector<double>>;  // each x0, y0, x1, y1, ... in pixels
struct UncompressedRle {
  std::int64_t height = 0, width = 0;
  std::vector<std::int64_t> counts;
};
struct CompressedRle {
  std::int64_t height = 0, width = 0;
  std::string counts;
};
using Segmentation = std::variant<std::monostate, Polygons, UncompressedRle, CompressedRle>;

// The mask on a canvas of height x width pixels, exactly as the COCO API rasterises it.
// Errors: std::invalid_argument when it is malformed, absent, or of another size.
Rle to_rle(const Segmentation& segmentation, std::int64_t height, std::int64_t width);

struct CocoImage {
  std::int64_t id = 0;
  std::string file_name;   // empty when the file states none
  std::int64_t width = 0;  // pixels; 0 when the file states none
  std::int64_t height = 0;
};

struct CocoAnnotation {
  std::int64_t id = 0;
  std::int64_t image_id = 0;
  std::int64_t category_id = 0;
  // x, y, width, height in pixels as written, unclipped. Anomalies are kept for the caller's
  // on_error rule: null, NaN, a string or a missing value is NaN, and num_bbox_values is what the
  // file has (-1: no "bbox" at all; 4: well-formed, if finite).
  std::array<double, 4> bbox = {kNan, kNan, kNan, kNan};
  std::int64_t num_bbox_values = -1;
  double area = kNan;  // square pixels, as written; NaN when the file states none
  bool is_crowd = false;
  bool ignore = false;  // as written; the COCO metrics heed is_crowd alone
  Segmentation segmentation;

  static constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  bool has_valid_bbox() const {
    return num_bbox_values == 4 && std::isfinite(bbox[0]) && std::isfinite(bbox[1]) &&
           std::isfinite(bbox[2]) && std::isfinite(bbox[3]) && bbox[2] >= 0 && bbox[3] >= 0;
  }
};

struct CocoCategory {
  std::int64_t id = 0;
  std::string name;
};

// A name that several categories share gets their ids: "b (3)", "b (7)"; no name stays none.
void make_names_unique(std::vector<CocoCategory>& categories);

// In file order; ids may repeat or point nowhere (the caller judges that).
struct CocoAnnotations {
  std::vector<CocoImage> images;
  std::vector<CocoAnnotation> annotations;
  std::vector<CocoCategory> categories;
};

// What is wrong with an entry: "annotation 7", "\"id\" is missing".
struct CocoProblem {
  std::string where, what;
};

struct CocoReadOptions {
  bool segmentations = true;  // false: masks are skipped unread (they are most of a file)
  // Takes malformed annotations, which are then left out; null: they are errors.
  std::vector<CocoProblem>* problems = nullptr;
};

// Streams a COCO "instances" file. An id may be a whole number or its decimal string.
// Errors: exit 66 when the file can't be opened; 65 for broken JSON (with the byte offset), a value
// of the wrong type, a missing id or a missing list, naming file, entry and value.
CocoAnnotations read_coco_annotations(const std::filesystem::path& path,
                                      const CocoReadOptions& options = {});

}  // namespace trainer
