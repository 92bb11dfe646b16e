#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <cmath>

#include "trainer/search/search_report.h"

namespace trainer {
namespace {

using Writer = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

void put(Writer& writer, const char* key, double value) {
  writer.Key(key);
  if (std::isfinite(value)) {
    writer.Double(value);
  } else {
    writer.Null();
  }
}

void put(Writer& writer, const char* key, const std::string& text) {
  writer.Key(key);
  writer.String(text.data(), static_cast<unsigned>(text.size()));
}

void put(Writer& writer, const char* key, std::size_t count) {
  writer.Key(key);
  writer.Uint64(count);
}

void put(Writer& writer, const char* key, const Statistics& statistics) {
  writer.Key(key);
  writer.StartObject();
  put(writer, "count", statistics.count);
  put(writer, "mean", statistics.mean);
  put(writer, "sd", statistics.sd);
  put(writer, "standard_error", statistics.error);
  writer.EndObject();
}

// {"regularization.l2": 0.0001}: numbers as numbers.
void put_values(Writer& writer, const SearchResult& result, const Values& values) {
  writer.Key("values");
  writer.StartObject();
  for (std::size_t k = 0; k < values.size(); ++k) {
    const auto number = as_number(values[k]);
    if (number) {
      put(writer, result.overs[k].key.c_str(), *number);
    } else {
      put(writer, result.overs[k].key.c_str(), values[k]);
    }
  }
  writer.EndObject();
}

void put_choice(Writer& writer, const char* key, const SearchResult& result, int index) {
  writer.Key(key);
  if (index < 0) {
    writer.Null();
    return;
  }
  const auto& candidate = result.summary.candidates[static_cast<std::size_t>(index)];
  writer.StartObject();
  put(writer, "candidate", static_cast<std::size_t>(candidate.candidate));
  put_values(writer, result, candidate.values);
  put(writer, "mean", candidate.metric.mean);
  writer.EndObject();
}

}  // namespace

std::string result_json(const SearchResult& result) {
  rapidjson::StringBuffer buffer;
  Writer writer(buffer);
  writer.SetIndent(' ', 2);
  writer.StartObject();
  put(writer, "metric", result.metric);
  put(writer, "strategy", result.strategy);
  put(writer, "folds", static_cast<std::size_t>(result.folds));
  put(writer, "seeds", static_cast<std::size_t>(result.seeds));
  put_choice(writer, "best", result, result.summary.best);
  put_choice(writer, "one_standard_error", result, result.summary.one_error);
  writer.Key("candidates");
  writer.StartArray();
  for (const CandidateSummary& candidate : result.summary.candidates) {
    writer.StartObject();
    put(writer, "candidate", static_cast<std::size_t>(candidate.candidate));
    put_values(writer, result, candidate.values);
    put(writer, "rung", static_cast<std::size_t>(candidate.rung));
    put(writer, "held_out", candidate.metric);
    put(writer, "training", candidate.train_metric);
    put(writer, "loss", candidate.loss);
    put(writer, "difference_to_best", candidate.difference);
    put(writer, "failed", candidate.num_failed);
    if (candidate.num_failed > 0) put(writer, "reason", candidate.reason);
    writer.EndObject();
  }
  writer.EndArray();
  writer.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + "\n";
}

}  // namespace trainer
