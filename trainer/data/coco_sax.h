#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "trainer/data/coco_json.h"

namespace trainer {

// The streaming parser behind annotation and results files, which share their entries.

enum class CocoList { kImages, kAnnotations, kCategories };

// An element of one of the lists; members that the file doesn't state keep these values.
struct CocoEntry {
  std::optional<std::int64_t> id, image_id, category_id;
  std::optional<double> score;
  std::string file_name, name;
  std::int64_t width = 0, height = 0;
  std::array<double, 4> bbox = CocoAnnotation{}.bbox;
  std::int64_t num_bbox_values = -1;
  double area = CocoAnnotation::kNan;
  bool is_crowd = false, ignore = false;
  Segmentation segmentation;
};

enum class CocoFileKind { kAnnotations, kResults };

struct CocoSource {
  std::filesystem::path path;
  CocoFileKind kind = CocoFileKind::kAnnotations;
  bool segmentations = true;
  std::vector<CocoProblem>* problems = nullptr;  // of annotations, in place of an error
};

// `number` counts the entries of a list from 0.
using CocoSink = std::function<void(CocoList list, std::size_t number, CocoEntry&& entry)>;

// Calls the sink for each entry in file order; returns the lists that the file has. A results file
// may be a bare list (of kAnnotations). Errors: as read_coco_annotations.
std::set<CocoList> parse_coco_file(const CocoSource& source, const CocoSink& sink);

// "annotation 7", or "annotation number 3 (from 0)" for one without an id.
std::string entry_name(CocoFileKind kind, CocoList list, std::size_t number,
                       const std::optional<std::int64_t>& id);
// Exit 65: `FILE: annotation 7: PROBLEM; correct the file`.
[[noreturn]] void fail_entry(const CocoSource& source, CocoList list, std::size_t number,
                             const std::optional<std::int64_t>& id, const std::string& problem);

}  // namespace trainer
