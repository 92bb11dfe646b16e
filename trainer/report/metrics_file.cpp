#include "trainer/report/metrics_file.h"

#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <array>
#include <cmath>
#include <fstream>
#include <optional>
#include <utility>

#include "comm/error.h"

namespace trainer {

namespace {

// One object of metrics.jsonl, built key by key.
class JsonLine {
 public:
  JsonLine() { writer_.StartObject(); }

  void key(std::string_view name) {
    writer_.Key(name.data(), static_cast<rapidjson::SizeType>(name.size()));
  }
  void integer(std::string_view name, std::int64_t value) {
    key(name);
    writer_.Int64(value);
  }
  void number(std::string_view name, double value) {
    key(name);
    if (std::isfinite(value))
      writer_.Double(value);
    else
      writer_.Null();
  }
  void string(std::string_view name, std::string_view value) {
    key(name);
    writer_.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
  }
  void numbers(std::span<const NamedValue> values) {
    for (const NamedValue& value : values) number(value.name, value.value);
  }
  std::string text() && {
    writer_.EndObject();
    return std::string(buffer_.GetString(), buffer_.GetSize()) + '\n';
  }

 private:
  rapidjson::StringBuffer buffer_;
  rapidjson::Writer<rapidjson::StringBuffer> writer_{buffer_};
};

// The file's bytes; empty if there is no file.
std::string read_text(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error) && !error) return {};
  std::ifstream file(path, std::ios::binary);
  std::string text;
  std::array<char, 65536> block;
  while (file.read(block.data(), block.size()) || file.gcount() > 0)
    text.append(block.data(), static_cast<std::size_t>(file.gcount()));
  if (error || file.bad() || !file.eof())
    comm::fail(comm::ExitCode::kIo, "cannot read \"{}\"; check its permissions", path.string());
  return text;
}

// Calls `visit` with each whole line, without its newline. A torn last line is left out.
template <typename Visit>
void for_each_line(std::string_view text, Visit&& visit) {
  for (std::size_t end; (end = text.find('\n')) != text.npos; text.remove_prefix(end + 1))
    visit(text.substr(0, end));
}

// Nothing if the line is no JSON object with an integer "step".
std::optional<MetricsLine> parse_line(std::string_view text) {
  rapidjson::Document document;
  document.Parse<rapidjson::kParseFullPrecisionFlag>(text.data(), text.size());
  if (document.HasParseError() || !document.IsObject()) return std::nullopt;
  const auto step = document.FindMember("step");
  if (step == document.MemberEnd() || !step->value.IsInt64()) return std::nullopt;
  MetricsLine line;
  line.step = step->value.GetInt64();
  for (const auto& [name, value] : document.GetObject()) {
    const std::string key(name.GetString(), name.GetStringLength());
    if (key == "split" && value.IsString())
      line.split.assign(value.GetString(), value.GetStringLength());
    else if (key != "step" && value.IsNumber())
      line.values[key] = value.GetDouble();
  }
  return line;
}

}  // namespace

MetricsFile::MetricsFile(std::filesystem::path path) : file_(std::move(path)) {}

bool MetricsFile::training(const StepReport& report) {
  JsonLine line;
  line.integer("step", report.step);
  line.number("epoch", report.epoch);
  line.integer("images", report.images);
  line.number("loss", report.loss);
  line.numbers(report.losses);
  line.number("lr", report.lr);
  line.number("l2_penalty", report.l2_penalty);
  line.number("grad_norm", report.grad_norm);
  line.number("images_per_second", report.images_per_second);
  line.number("data_seconds", report.seconds.data);
  line.number("step_seconds", report.seconds.total);
  line.number("eta_seconds", report.eta_seconds);
  line.integer("memory_bytes", report.memory_bytes);
  line.numbers(report.extra);
  return file_.append(std::move(line).text());
}

bool MetricsFile::evaluation(std::int64_t step, std::string_view split,
                             std::span<const NamedValue> metrics) {
  JsonLine line;
  line.integer("step", step);
  line.string("split", split);
  line.numbers(metrics);
  return file_.append(std::move(line).text());
}

void MetricsFile::cut_back(std::int64_t step) {
  const std::string text = read_text(file_.path());
  std::string kept;
  for_each_line(text, [&](std::string_view line) {
    const std::optional<MetricsLine> parsed = parse_line(line);
    if (parsed && parsed->step <= step) kept.append(line).push_back('\n');
  });
  if (kept == text) return;
  file_.close();
  write_file(file_.path(), kept);
}

std::vector<MetricsLine> read_metrics(const std::filesystem::path& path) {
  std::vector<MetricsLine> lines;
  for_each_line(read_text(path), [&](std::string_view line) {
    if (auto parsed = parse_line(line)) lines.push_back(std::move(*parsed));
  });
  return lines;
}

}  // namespace trainer
