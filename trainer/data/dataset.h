#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "trainer/config/config.h"
#include "trainer/data/anomalies.h"
#include "trainer/data/coco_json.h"
#include "trainer/data/image.h"
#include "trainer/data/transform.h"

namespace trainer {

// What a model reads besides image, sample_id and original_size, which every batch has.
struct Fields {
  bool boxes = false;      // boxes, labels, count
  bool label_map = false;  // label_map
  bool label = false;      // label (classifiers)
};

// One annotated object.
struct Object {
  Corners box = {};  // original pixels, clipped to the image
  int label = 0;     // class index of the model; 0 is the background and never an object
  bool crowd = false;
  bool difficult = false;  // VOC; trained on, not scored
  bool trained = true;     // false: a crowd, or a box without area
  double area = 0;         // square pixels, as annotated, else of the box
  std::int64_t category_id = 0;
  std::int64_t annotation = -1;  // coco: index of its segmentation
};

// What is known of an image without decoding it.
struct Sample {
  std::string name;        // as the annotations name it; "shapes/12" when there is no file
  std::string file;        // path to open; empty: not a file
  std::string label_file;  // path of the label image; empty: none
  std::int64_t image_id = 0;
  int width = 0, height = 0;  // original pixels as annotated; 0: known only to the file
  int label = -1;             // class of the image (classifiers)
  std::vector<Object> objects;
};

// Asks for a reduced decode: the smallest size that suffices for an image of size `original`.
using NeededSize = std::function<Size(Size original)>;

// One split of a data set: the same interface for every format.
//
// Classes. Detection and segmentation: index 0 is the background, class k of class_names() has
// index k + 1 (label_map contiguous) or its category id (label_map ids). Classifiers (mnist,
// folders) and label_map cityscapes: no background, class k has index k.
//
// Invariant: immutable after open_dataset, so any number of threads may read.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual std::int64_t size() const = 0;
  // The sample's index in [0, size()) is its global id.
  virtual const Sample& sample(std::int64_t index) const = 0;

  // Decoded, oriented, of the annotated size (before any shrink). Errors: SampleError.
  virtual ShrunkImage image(std::int64_t index, const NeededSize& needed = nullptr) const;
  // Class indices and `ignore`, of the image's size; REQUIRES: opened with fields.label_map.
  // Errors: SampleError.
  LabelImage label_map(std::int64_t index) const;

  // Ground truth for the evaluator: boxes and areas as annotated (VOC: 0-based), crowds included,
  // image_id and category ids as in results files. For formats without boxes: no annotations.
  virtual CocoAnnotations ground_truth() const = 0;

  bool has_background() const { return has_background_; }
  virtual int channels() const { return 3; }

  const std::vector<std::string>& class_names() const { return class_names_; }
  int class_label(std::size_t k) const { return class_labels_.at(k); }  // index of class_names()[k]
  // Indices a model needs, background included.
  int num_classes() const { return num_classes_; }
  int ignore() const { return ignore_; }
  // Of an index: "background" for 0 where there is one; "" for one without a class.
  std::string class_name(int label) const;
  std::int64_t category_id(int label) const;  // for results files; -1 for one without a class

  // XXH3 of the ordered names, ids, sizes, classes and annotation bytes. The same wherever the
  // files lie; changes when any annotation does.
  std::uint64_t fingerprint() const { return fingerprint_; }
  const AnomalyReport& anomalies() const { return anomalies_; }
  const std::string& source() const { return source_; }  // for messages: file or folder

 protected:
  // Unchecked values; the default reads sample(index).label_file.
  virtual LabelImage decode_label_map(std::int64_t index) const;
  // Names in order, category id = index.
  void number_classes(std::vector<std::string> names, bool has_background);

  std::vector<std::string> class_names_;
  std::vector<std::int64_t> category_ids_;  // of class_names_
  std::vector<int> class_labels_;           // index of each of class_names_
  int num_classes_ = 0;
  bool has_background_ = true;
  int ignore_ = 255;
  std::uint64_t fingerprint_ = 0;
  AnomalyReport anomalies_;
  std::string source_;
};

struct OpenOptions {
  std::string split = "train";
  Fields fields;
  int model_num_classes = 0;  // model.num_classes, 0: not given
  bool enforce = true;        // false: anomalies are reported, on_error is left to the caller
};

// Reads every annotation of one split (no image is decoded) and checks that its files are there.
// Errors: 78 configuration, 66 missing files, 65 data that on_error does not allow, no image at
// all, or more than max_boxes boxes in one image (naming it).
std::unique_ptr<Dataset> open_dataset(const DataConfig& config, const OpenOptions& options);

// Throws 65 naming the first difference unless both number the same classes the same way.
void require_same_classes(const Dataset& a, const Dataset& b);

}  // namespace trainer
