#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "trainer/data/coco_json.h"

namespace trainer {

// One entry of a COCO results file.
struct CocoDetection {
  std::int64_t image_id = 0;
  std::int64_t category_id = 0;
  bool has_bbox = false;
  std::array<double, 4> bbox{};  // x, y, width, height in pixels
  double score = 0;
  Segmentation segmentation;
};

// Streams a COCO results file: a list of detections, or an object whose "annotations" are (as some
// tools write them). Each needs image_id, category_id, a finite score, and a finite bbox or a
// segmentation; other members are skipped.
// Errors: exit 66 when the file can't be opened; 65 otherwise, naming file, entry and value.
std::vector<CocoDetection> read_coco_detections(const std::filesystem::path& path);

// The results format, one detection a line, in the order given: same input, same bytes. Doubles
// with digits that read back the same; RLE masks in the compressed form.
// REQUIRES: finite numbers.
std::string coco_detections_json(std::span<const CocoDetection> detections);

}  // namespace trainer
