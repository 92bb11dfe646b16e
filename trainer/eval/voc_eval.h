#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trainer/eval/metrics.h"

namespace trainer {

// PASCAL VOC's average precision (Everingham et al., IJCV 2010; devkit VOCevaldet.m): a detection,
// best score first, takes the object of its class and image with the highest IoU; it is right if
// IoU >= threshold and no earlier detection took that object. Corners are inclusive pixels, so a
// side is max - min + 1. Equal scores rank in input order.

struct VocObject {
  std::int64_t image = 0;           // any key
  std::int64_t category = 0;        // 0 .. num_classes - 1
  std::array<double, 4> corners{};  // xmin, ymin, xmax, ymax in pixels
  bool difficult = false;           // neither to be found nor an error to find
};

struct VocDetection {
  std::int64_t image = 0;
  std::int64_t category = 0;
  std::array<double, 4> corners{};
  double score = 0;
};

enum class VocAp {
  kAllPoints,     // area under the precision envelope: VOC 2010 and later
  kElevenPoints,  // mean of the envelope at recall 0, .1, ..., 1: VOC 2007
};

struct VocOptions {
  std::int64_t num_classes = 0;
  double iou_threshold = 0.5;
  VocAp ap = VocAp::kAllPoints;
};

struct VocResult {
  double mean_ap = kUndefined;  // over the classes where AP is defined
  std::vector<double> ap;       // a class; NaN without any object that isn't difficult
};

// Throws std::invalid_argument when a category is outside 0 .. num_classes - 1.
VocResult evaluate_voc(std::span<const VocObject> objects, std::span<const VocDetection> detections,
                       const VocOptions& options);

// The block "voc" of metrics.json, of a result at IoU .5.
MetricGroup voc_metrics(const VocResult& result, std::span<const std::string> names);

}  // namespace trainer
