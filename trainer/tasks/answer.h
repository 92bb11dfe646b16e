#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "trainer/data/batch.h"
#include "trainer/data/coco_json.h"
#include "trainer/data/dataset.h"
#include "trainer/data/detections_json.h"
#include "trainer/tasks/host_outputs.h"

namespace trainer {

// One thing a network says about an image.
//   detection: an object, its score and box in pixels of the original image
//   segmentation: a class and its share of the pixels; no box
//   classification: a class and its probability; no box
struct Answer {
  std::int64_t sample = 0;
  std::int32_t label = 0;
  float score = 0;
  double box[4] = {};  // x1, y1, x2, y2
};

// Detections of image n of a batch from the outputs of its inference plan, best first.
std::vector<Answer> read_detections(const HostOutputs& outputs, const Batch& batch, int n);

// Class of every pixel of image n at its original size: the logits, interpolated bilinearly, then
// the largest; the lower class of equals.
LabelImage read_label_map(const HostOutputs& outputs, const Batch& batch, int n);
// Shares of the classes that occur, largest first.
std::vector<Answer> shares_of_classes(const LabelImage& labels, std::int64_t sample);

// The `count` likeliest classes of image n with their softmax probabilities, likeliest first.
std::vector<Answer> read_classes(const HostOutputs& outputs, const Batch& batch, int n, int count);

// The results-file form of detections.
std::vector<CocoDetection> coco_detections(const std::vector<Answer>& answers,
                                           const Dataset& dataset);

// All ranks' answers, or samples, on every rank, in order of the samples. Collective.
std::vector<Answer> gather_answers(const std::vector<Answer>& mine,
                                   comm::Communicator& communicator);
std::vector<std::int64_t> gather_samples(const std::vector<std::int64_t>& mine,
                                         comm::Communicator& communicator);

}  // namespace trainer
