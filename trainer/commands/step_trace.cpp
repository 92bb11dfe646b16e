#include "trainer/commands/step_trace.h"

#include <fmt/format.h>
#include <rapidjson/writer.h>

#include <array>

namespace trainer {
namespace {

constexpr std::array<std::string_view, 4> kTrackNames = {"compute", "data", "communication",
                                                         "update"};

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

void text(Writer& json, std::string_view key, std::string_view value) {
  json.Key(key.data(), static_cast<unsigned>(key.size()));
  json.String(value.data(), static_cast<unsigned>(value.size()));
}

void integer(Writer& json, std::string_view key, int value) {
  json.Key(key.data(), static_cast<unsigned>(key.size()));
  json.Int(value);
}

// Nanoseconds are kept.
void microseconds(Writer& json, std::string_view key, double seconds) {
  const std::string number = fmt::format("{:.3f}", 1e6 * seconds);
  json.Key(key.data(), static_cast<unsigned>(key.size()));
  json.RawValue(number.data(), number.size(), rapidjson::kNumberType);
}

struct Label {
  std::string_view kind;  // "process_name", "thread_name"
  int rank, track;
  std::string name;
};

rapidjson::StringBuffer label_event(const Label& label) {
  rapidjson::StringBuffer buffer;
  Writer json(buffer);
  json.StartObject();
  text(json, "ph", "M");
  text(json, "name", label.kind);
  integer(json, "pid", label.rank);
  integer(json, "tid", label.track);
  json.Key("args");
  json.StartObject();
  text(json, "name", label.name);
  json.EndObject();
  json.EndObject();
  return buffer;
}

}  // namespace

StepTrace::StepTrace(int rank, double origin) : rank_(rank), origin_(origin) {
  append(label_event({"process_name", rank, 0, fmt::format("rank {}", rank)}));
  for (std::size_t track = 0; track < kTrackNames.size(); ++track) {
    append(label_event(
        {"thread_name", rank, static_cast<int>(track), std::string(kTrackNames[track])}));
  }
}

void StepTrace::add(const Event& event) {
  rapidjson::StringBuffer buffer;
  Writer json(buffer);
  json.StartObject();
  text(json, "ph", "X");
  text(json, "name", event.name);
  integer(json, "pid", rank_);
  integer(json, "tid", static_cast<int>(event.track));
  microseconds(json, "ts", event.start - origin_);
  microseconds(json, "dur", event.end - event.start);
  if (!event.category.empty()) text(json, "cat", event.category);
  if (!event.detail.empty()) {
    json.Key("args");
    json.StartObject();
    text(json, "detail", event.detail);
    json.EndObject();
  }
  json.EndObject();
  append(buffer);
}

void StepTrace::append(const rapidjson::StringBuffer& event) {
  if (!events_.empty()) events_ += ",\n";
  events_.append(event.GetString(), event.GetSize());
}

std::string trace_json(const std::vector<std::string>& ranks) {
  return fmt::format("{{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n{}\n]}}\n",
                     fmt::join(ranks, ",\n"));
}

}  // namespace trainer
