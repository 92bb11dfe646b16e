#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <algorithm>
#include <utility>

#include "trainer/data/data_report.h"

namespace trainer {
namespace {

void append_range(std::string& text, const char* what, const Range& range) {
  if (range.max > 0)
    text += fmt::format("  {:<18} {:.0f} to {:.0f}, median {:.0f}\n", what, range.min, range.max,
                        range.median);
}

void append_classes(std::string& text, const SplitReport& split) {
  const bool boxes = split.statistics.has_boxes;
  const bool pixels =
      split.check && std::ranges::any_of(split.check->class_pixels, [](auto n) { return n > 0; });
  text += fmt::format("  {:>5}  {:<24} {:>9}", "index", "class", "images");
  if (boxes) text += fmt::format(" {:>9} {:>8} {:>10}", "boxes", "crowds", "difficult");
  text += pixels ? fmt::format(" {:>15}\n", "pixels") : "\n";
  for (const ClassStatistics& entry : split.statistics.classes) {
    const auto label = static_cast<std::size_t>(entry.label);
    text += fmt::format("  {:>5}  {:<24} {:>9}", entry.label, trainer::quoted(entry.name),
                        pixels ? split.check->class_images[label] : entry.images);
    if (boxes)
      text += fmt::format(" {:>9} {:>8} {:>10}", entry.boxes, entry.crowds, entry.difficult);
    text += pixels ? fmt::format(" {:>15}\n", split.check->class_pixels[label]) : "\n";
  }
  if (!pixels) return;
  if (split.statistics.classes.front().label > 0)
    text += fmt::format("  background {} pixels\n", split.check->class_pixels[0]);
  text += fmt::format("  ignored {} pixels\n", split.check->ignored_pixels);
}

void append_anomalies(std::string& text, const SplitReport& split, const DataConfig& config) {
  if (split.anomalies.empty()) {
    text += "  anomalies: none\n";
    return;
  }
  text += "  anomalies:\n";
  for (int i = 0; i < kNumAnomalyKinds; ++i) {
    const auto kind = static_cast<AnomalyKind>(i);
    const std::int64_t count = split.anomalies.count(kind);
    if (count == 0) continue;
    const std::string_view done = !governed_by_on_error(kind)         ? anomaly_remedy(kind)
                                  : config.on_error == OnError::kSkip ? "left out"
                                                                      : "training stops";
    text += fmt::format("    {} x {}: {}\n", count, anomaly_name(kind), done);
    for (const Anomaly& anomaly : split.anomalies.named())
      if (anomaly.kind == kind)
        text += fmt::format("      {}{}{}\n", anomaly.where, anomaly.detail.empty() ? "" : ": ",
                            anomaly.detail);
    if (count > AnomalyReport::kMaxNamed)
      text += fmt::format("      and {} more\n", count - AnomalyReport::kMaxNamed);
  }
}

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

void put(Writer& json, const char* key, std::int64_t value) {
  json.Key(key);
  json.Int64(value);
}
void put(Writer& json, const char* key, const std::string& value) {
  json.Key(key);
  json.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
}
void put(Writer& json, const char* key, const Range& range) {
  json.Key(key);
  json.StartObject();
  for (const auto& [name, value] : {std::pair("min", range.min), std::pair("median", range.median),
                                    std::pair("max", range.max)}) {
    json.Key(name);
    json.Double(value);
  }
  json.EndObject();
}

void put_classes(Writer& json, const SplitReport& split) {
  json.Key("classes");
  json.StartArray();
  for (const ClassStatistics& entry : split.statistics.classes) {
    json.StartObject();
    put(json, "name", entry.name);
    put(json, "index", entry.label);
    put(json, "images", entry.images);
    put(json, "boxes", entry.boxes);
    put(json, "crowds", entry.crowds);
    put(json, "difficult", entry.difficult);
    if (split.check)
      put(json, "pixels", split.check->class_pixels[static_cast<std::size_t>(entry.label)]);
    json.EndObject();
  }
  json.EndArray();
}

void put_anomalies(Writer& json, const AnomalyReport& anomalies) {
  json.Key("anomalies");
  json.StartObject();
  for (int i = 0; i < kNumAnomalyKinds; ++i) {
    const auto kind = static_cast<AnomalyKind>(i);
    if (anomalies.count(kind) == 0) continue;
    json.Key(std::string(anomaly_name(kind)).c_str());
    json.StartObject();
    put(json, "count", anomalies.count(kind));
    put(json, "done", std::string(anomaly_remedy(kind)));
    json.Key("named");
    json.StartArray();
    for (const Anomaly& anomaly : anomalies.named()) {
      if (anomaly.kind != kind) continue;
      json.StartObject();
      put(json, "where", anomaly.where);
      put(json, "detail", anomaly.detail);
      json.EndObject();
    }
    json.EndArray();
    json.EndObject();
  }
  json.EndObject();
}

}  // namespace

std::string data_report_text(const DataReport& report, const DataConfig& config) {
  std::string text;
  for (const SplitReport& split : report.splits) {
    const DataStatistics& s = split.statistics;
    text +=
        fmt::format("{} ({}, {}), fingerprint {:016x}{}\n", split.split, split.format, split.source,
                    split.fingerprint, split.check ? ", every image decoded" : "");
    text += fmt::format("  {:<18} {}\n", "images", s.num_images);
    append_range(text, "width", s.width);
    append_range(text, "height", s.height);
    if (s.num_boxes > 0) {
      text +=
          fmt::format("  {:<18} {}, at most {} in an image\n", "boxes", s.num_boxes, s.max_boxes);
      append_range(text, "sqrt(box area)", s.box_side);
    }
    if (s.images_without_boxes > 0)
      text += fmt::format("  {:<18} {}\n", "without a box", s.images_without_boxes);
    for (std::size_t i = 0; i < s.images_of_bucket.size(); ++i)
      text += fmt::format("  bucket {}x{}: {} images\n", config.size[i].height,
                          config.size[i].width, s.images_of_bucket[i]);
    append_classes(text, split);
    append_anomalies(text, split, config);
    if (!split.problem.empty()) text += "  " + split.problem + '\n';
  }
  return text;
}

std::string data_report_json(const DataReport& report) {
  rapidjson::StringBuffer buffer;
  Writer json(buffer);
  json.StartObject();
  json.Key("splits");
  json.StartObject();
  for (const SplitReport& split : report.splits) {
    json.Key(split.split.c_str());
    json.StartObject();
    put(json, "format", split.format);
    put(json, "source", split.source);
    put(json, "fingerprint", fmt::format("{:016x}", split.fingerprint));
    put(json, "images", split.statistics.num_images);
    put(json, "boxes", split.statistics.num_boxes);
    put(json, "images_without_boxes", split.statistics.images_without_boxes);
    put(json, "max_boxes", split.statistics.max_boxes);
    put(json, "width", split.statistics.width);
    put(json, "height", split.statistics.height);
    put(json, "box_side", split.statistics.box_side);
    put_classes(json, split);
    put_anomalies(json, split.anomalies);
    put(json, "problem", split.problem);
    json.EndObject();
  }
  json.EndObject();
  json.Key("stop");
  if (report.stop) {
    json.StartObject();
    put(json, "exit", static_cast<int>(report.stop->code()));
    put(json, "message", std::string(report.stop->what()));
    json.EndObject();
  } else {
    json.Null();
  }
  json.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + '\n';
}

}  // namespace trainer
