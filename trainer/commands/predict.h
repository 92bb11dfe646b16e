#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/evaluation.h"

namespace trainer {

struct PredictOptions {
  std::string checkpoint;
  std::filesystem::path out;
  std::vector<std::string> images;
};

// What was found on one image.
struct Prediction {
  std::string file, picture;
  int width = 0, height = 0;  // of the image
  std::vector<Found> found;   // best first, boxes in its pixels
};

// Detects on image files spread over the ranks; writes OUT/predictions.json and a picture an image.
// Collective. Errors: those of open_weights, load_weights and reading an image, on all ranks.
// Returns the predictions in the order of the images, on rank 0.
std::vector<Prediction> run_predict(const Config& config, const PredictOptions& options,
                                    comm::Communicator& communicator, comm::Progress& progress);

// {"images": [{"file", "width", "height", "picture", "detections": [{"label", "class", "score",
// "box": [x1, y1, x2, y2]}]}]}
std::string predictions_json(const std::vector<Prediction>& predictions,
                             const std::vector<std::string>& class_names);

// Divides the words behind CONFIG: KEY=VALUE overrides, and images (whatever names a file).
struct PredictWords {
  std::vector<std::string> overrides, images;
};
PredictWords divide_words(const std::vector<std::string>& words);

}  // namespace trainer
