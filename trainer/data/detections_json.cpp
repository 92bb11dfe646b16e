#include "trainer/data/detections_json.h"

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <cmath>
#include <utility>

#include "comm/error.h"
#include "trainer/data/anomalies.h"
#include "trainer/data/coco_sax.h"

namespace trainer {
namespace {

// What is wrong with a detection; empty if nothing.
std::string problem_of(const CocoEntry& entry) {
  if (!entry.image_id) return "\"image_id\" is missing";
  if (!entry.category_id) return "\"category_id\" is missing";
  if (!entry.score) return "\"score\" is missing";
  const bool has_mask = !std::holds_alternative<std::monostate>(entry.segmentation);
  // Tools write "bbox": [] beside masks.
  if (entry.num_bbox_values <= 0) return has_mask ? "" : "it has neither a bbox nor a segmentation";
  if (entry.num_bbox_values != 4) return "\"bbox\" has other than four values";
  for (const double value : entry.bbox) {
    if (!std::isfinite(value)) return "\"bbox\" holds a value that is no finite number";
  }
  return "";
}

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

void write_mask(Writer& writer, std::int64_t height, std::int64_t width,
                const std::string& counts) {
  writer.Key("segmentation");
  writer.StartObject();
  writer.Key("size");
  writer.StartArray();
  writer.Int64(height);
  writer.Int64(width);
  writer.EndArray();
  writer.Key("counts");
  writer.String(counts.data(), static_cast<unsigned>(counts.size()));
  writer.EndObject();
}

struct WriteSegmentation {
  Writer& writer;

  void operator()(std::monostate) const {}
  void operator()(const Polygons& polygons) const {
    writer.Key("segmentation");
    writer.StartArray();
    for (const std::vector<double>& polygon : polygons) {
      writer.StartArray();
      for (const double value : polygon) writer.Double(value);
      writer.EndArray();
    }
    writer.EndArray();
  }
  void operator()(const UncompressedRle& rle) const {
    const Rle mask = rle_from_counts(rle.counts, rle.height, rle.width);
    write_mask(writer, rle.height, rle.width, rle_to_string(mask));
  }
  void operator()(const CompressedRle& rle) const {
    write_mask(writer, rle.height, rle.width, rle.counts);
  }
};

void write_detection(Writer& writer, const CocoDetection& detection) {
  writer.StartObject();
  writer.Key("image_id");
  writer.Int64(detection.image_id);
  writer.Key("category_id");
  writer.Int64(detection.category_id);
  if (detection.has_bbox) {
    writer.Key("bbox");
    writer.StartArray();
    for (const double value : detection.bbox) {
      REQUIRE(writer.Double(value), "box value {}", value);
    }
    writer.EndArray();
  }
  std::visit(WriteSegmentation{writer}, detection.segmentation);
  writer.Key("score");
  REQUIRE(writer.Double(detection.score), "score {}", detection.score);
  writer.EndObject();
}

}  // namespace

std::vector<CocoDetection> read_coco_detections(const std::filesystem::path& path) {
  std::vector<CocoDetection> detections;
  const CocoSource source{path, CocoFileKind::kResults, true};
  const auto lists =
      parse_coco_file(source, [&](CocoList list, std::size_t number, CocoEntry&& entry) {
        if (list != CocoList::kAnnotations) return;
        const std::string problem = problem_of(entry);
        if (!problem.empty()) fail_entry(source, list, number, {}, problem);
        detections.push_back({*entry.image_id, *entry.category_id, entry.num_bbox_values == 4,
                              entry.bbox, *entry.score, std::move(entry.segmentation)});
      });
  if (!lists.contains(CocoList::kAnnotations)) {
    comm::fail(comm::ExitCode::kData, "{}: is neither a list of detections nor an object with one",
               trainer::quoted(path.string()));
  }
  return detections;
}

std::string coco_detections_json(std::span<const CocoDetection> detections) {
  std::string text = "[";
  rapidjson::StringBuffer buffer;
  for (const CocoDetection& detection : detections) {
    buffer.Clear();
    Writer writer(buffer);
    write_detection(writer, detection);
    text += text.size() == 1 ? "\n" : ",\n";
    text.append(buffer.GetString(), buffer.GetSize());
  }
  return text + "\n]\n";
}

}  // namespace trainer
