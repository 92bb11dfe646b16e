#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "models/model.h"
#include "trainer/config/config.h"
#include "trainer/tasks/answer.h"

namespace trainer {

struct PredictOptions {
  std::string checkpoint;
  std::filesystem::path out;
  std::vector<std::string> images;
};

// What a network says about one image.
struct Prediction {
  std::string file, picture;
  std::string label_map;        // segmentation: PNG of class indices
  std::string left_out;         // why it could not be read; empty: it was
  int width = 0, height = 0;    // of the image
  std::vector<Answer> answers;  // best first
};

// Predicts on image files spread over the ranks; writes OUT/predictions.json, a picture an image
// and, for segmentation, a label map an image: OUT/predictions/STEM.png.
// Collective. Errors: those of open_weights, load_weights and reading an image, on all ranks.
// Returns the predictions in the order of the images, on rank 0.
std::vector<Prediction> run_predict(const Config& config, const PredictOptions& options,
                                    comm::Communicator& communicator, comm::Progress& progress);

// {"images": [{"file", "width", "height", "picture", ...}]} with, by task,
//   detection       "detections": [{"label", "class", "score", "box": [x1, y1, x2, y2]}]
//   segmentation    "label_map": file, "classes": [{"label", "class", "share"}]
//   classification  "classes": [{"label", "class", "probability"}]
// An image that data.on_error: skip left out has "left_out": why, and neither size nor files.
std::string predictions_json(models::Task task, const std::vector<Prediction>& predictions,
                             const std::vector<std::string>& class_names);

// Divides the words behind CONFIG: KEY=VALUE overrides, and images (whatever names a file).
struct PredictWords {
  std::vector<std::string> overrides, images;
};
PredictWords divide_words(const std::vector<std::string>& words);

}  // namespace trainer
