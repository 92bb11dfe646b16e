#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/data/coco_json.h"
#include "trainer/data/detections_json.h"
#include "trainer/eval/coco_eval.h"

namespace trainer {

// Ground truth and detections of files, as the COCO API prepares them for COCOeval.
struct CocoEvalData {
  std::vector<std::int64_t> image_ids;      // in file order
  std::vector<std::int64_t> category_ids;   // ascending
  std::vector<std::string> category_names;  // go with category_ids
  std::vector<EvalObject> objects;
  std::vector<EvalDetection> detections;

  CocoEvalInput input() const { return {image_ids, category_ids, objects, detections}; }
};

// Area: an object's own, else width * height of its box; a detection's is its box's where it has
// one, else its mask's. Missing masks of detections are their boxes, missing boxes their masks'.
// Errors (exit 65, naming entry and value): duplicate ids, references to unknown images or
// categories, boxes that are malformed or negative, masks that are malformed or not of the image's
// size, an object without a mask for IouType::kMask.
CocoEvalData coco_eval_data(const CocoAnnotations& annotations,
                            const std::vector<CocoDetection>& detections, IouType type);

}  // namespace trainer
