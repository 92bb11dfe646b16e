#include "trainer/data/metrics_json.h"

#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <cmath>

namespace trainer {
namespace {

using Writer = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

void write_values(Writer& writer, const NamedValues& values) {
  for (const auto& [name, value] : values) {
    writer.Key(name.data(), static_cast<unsigned>(name.size()));
    if (std::isfinite(value)) {
      writer.Double(value);
    } else {
      writer.Null();
    }
  }
}

}  // namespace

std::string metrics_json(const Metrics& metrics) {
  rapidjson::StringBuffer buffer;
  Writer writer(buffer);
  writer.SetIndent(' ', 2);
  writer.StartObject();
  for (const MetricGroup& group : metrics.groups) {
    writer.Key(group.name.data(), static_cast<unsigned>(group.name.size()));
    writer.StartObject();
    write_values(writer, group.values);
    if (!group.per_class.empty()) {
      writer.Key("per_class");
      writer.StartObject();
      write_values(writer, group.per_class);
      writer.EndObject();
    }
    writer.EndObject();
  }
  writer.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + "\n";
}

}  // namespace trainer
