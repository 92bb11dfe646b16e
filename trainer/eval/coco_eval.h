#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trainer/eval/mask_rle.h"
#include "trainer/eval/metrics.h"

namespace trainer {

// COCO's detection metrics, equal to cocodataset/cocoapi (PythonAPI, COCOeval with default
// parameters): AP and AR over IoU .50:.05:.95, areas all / < 32^2 / to 96^2 / above, and the best
// 1, 10 or 100 detections an image and class. One difference: an object whose id is 0 counts like
// any other (that API takes its match for none).

struct EvalObject {  // ground truth
  std::int64_t image_id = 0;
  std::int64_t category_id = 0;
  std::array<double, 4> box{};  // x, y, width, height in pixels
  double area = 0;              // square pixels; decides the area range (COCO: of the mask)
  bool is_crowd = false;        // matches any number of detections, none of which is then counted
  Rle mask;                     // read for IouType::kMask only
};

struct EvalDetection {
  std::int64_t image_id = 0;
  std::int64_t category_id = 0;
  std::array<double, 4> box{};
  double area = 0;
  double score = 0;
  Rle mask;
};

enum class IouType { kBox, kMask };

// Views; what they point to outlives the call. Objects and detections of images or categories that
// are not listed are left out. Equal scores rank in the order of `detections`.
struct CocoEvalInput {
  std::span<const std::int64_t> image_ids;
  std::span<const std::int64_t> category_ids;
  std::span<const EvalObject> objects;
  std::span<const EvalDetection> detections;
};

inline constexpr int kNumRecalls = 101;  // 0, .01, ..., 1
using PrecisionCurve = std::array<double, kNumRecalls>;

// NaN stands for "undefined": no object to find in that class and area.
enum CocoStat { kAp, kAp50, kAp75, kApS, kApM, kApL, kAr1, kAr10, kAr100, kArS, kArM, kArL };
inline constexpr std::array<const char*, 12> kCocoStatNames = {
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"};
using CocoStats = std::array<double, kCocoStatNames.size()>;

struct CocoClassResult {
  std::int64_t category_id = 0;
  CocoStats stats{};
  // Precision over recall at IoU .5 (all areas, 100 detections); NaN throughout if undefined.
  PrecisionCurve precision50{};
};

struct CocoResult {
  CocoStats stats{};
  PrecisionCurve precision50{};            // mean over the classes where it is defined
  std::vector<CocoClassResult> per_class;  // in the order of category_ids
};

// The result doesn't depend on num_threads.
// REQUIRES: masks of one image have one size; no id is listed twice (std::invalid_argument).
CocoResult evaluate_coco(const CocoEvalInput& input, IouType type, int num_threads = 1);

// The block "bbox" or "segm" of metrics.json. `names` go with result.per_class.
MetricGroup coco_metrics(const CocoResult& result, const std::string& group,
                         std::span<const std::string> names);

}  // namespace trainer
