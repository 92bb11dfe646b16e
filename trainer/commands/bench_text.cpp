// How `ridgeline bench` prints.
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "trainer/commands/bench.h"
#include "trainer/commands/json_writer.h"
#include "trainer/report/step_meter.h"
#include "trainer/report/text_table.h"

namespace trainer {
namespace {

constexpr std::size_t kShownOps = 10;

double gflops_per_second(const OpCost& op) {
  return op.seconds > 0 ? op.flops / op.seconds * 1e-9 : 0;
}

// A convolution names the primitives of all its passes, "fwd A, bwd-data B, ...": those of this
// one.
std::string implementation_of(const OpCost& op) {
  const std::string prefix = op.pass == "forward" ? "fwd" : "bwd";
  std::string kept;
  std::istringstream parts(op.implementation);
  for (std::string part; std::getline(parts >> std::ws, part, ',');) {
    if (part.starts_with(prefix)) kept += (kept.empty() ? "" : ", ") + part;
  }
  return kept.empty() ? op.implementation : kept;
}

std::string op_table(const BenchResult& result) {
  TextTable table({{"costliest ops"},
                   {"op"},
                   {"pass"},
                   {"ms/step", Align::kRight},
                   {"share", Align::kRight},
                   {"GFLOP/s", Align::kRight},
                   {"implementation"}});
  for (std::size_t i = 0; i < std::min(kShownOps, result.ops.size()); ++i) {
    const OpCost& op = result.ops[i];
    table.row({op.scope, op.op, op.pass, fmt::format("{:.2f}", 1e3 * op.seconds),
               fmt::format("{:.1f} %", 100 * op.seconds * result.images_per_second / result.batch),
               op.flops > 0 ? fmt::format("{:.0f}", gflops_per_second(op)) : "-",
               implementation_of(op)});
  }
  return table.text();
}

std::string phase_line(const BenchResult& result) {
  const PhaseSeconds& p = result.phases;
  return fmt::format(
      "phases: forward {:.1f} ms, backward {:.1f} ms, update {:.1f} ms, "
      "communication {:.1f} ms\n",
      1e3 * p.forward, 1e3 * p.backward, 1e3 * p.update, 1e3 * p.communication);
}

void write_op(const OpCost& op, JsonWriter& json) {
  json.begin_object();
  json.text("scope", op.scope);
  json.text("op", op.op);
  json.text("pass", op.pass);
  json.number("ms", 1e3 * op.seconds);
  json.number("gflops_per_second",
              op.flops > 0 ? std::optional(gflops_per_second(op)) : std::nullopt);
  json.text("implementation", implementation_of(op));
  json.end_object();
}

void write_phases(const PhaseSeconds& phases, JsonWriter& json) {
  json.begin_object("phases");
  json.number("forward", phases.forward);
  json.number("backward", phases.backward);
  json.number("update", phases.update);
  json.number("communication", phases.communication);
  json.end_object();
}

void write_floor(const BenchResult& result, JsonWriter& json) {
  json.begin_object("floor");
  json.integer("convolutions", result.floor->convolutions);
  json.number("seconds", result.floor->seconds);
  json.number("direct_seconds", result.floor->direct_seconds);
  json.number("ratio", result.step_p50_seconds / result.floor->seconds);
  json.number("direct_ratio", result.step_p50_seconds / result.floor->direct_seconds);
  json.end_object();
}

}  // namespace

std::string bench_text(const BenchResult& result) {
  std::string text = fmt::format(
      "{}: batch {} in micro-batches of {}, {} x {}, {} rank{} x {} thread{}, {} steps\n",
      result.name, result.batch, result.micro_batch, result.height, result.width, result.ranks,
      result.ranks == 1 ? "" : "s", result.threads, result.threads == 1 ? "" : "s", result.steps);
  text += fmt::format(
      "{:.3f} images/s; step p50 {:.1f} ms, p99 {:.1f} ms; first step {:.2f} s after "
      "the start; peak memory {} a rank\n",
      result.images_per_second, 1e3 * result.step_p50_seconds, 1e3 * result.step_p99_seconds,
      result.first_step_seconds, format_bytes(result.memory_peak_bytes));
  text += phase_line(result);
  if (result.floor) {
    text += fmt::format(
        "floor: {} convolutions alone take {:.1f} ms, direct ones {:.1f} ms; the "
        "step is {:.2f} x the floor, {:.2f} x direct\n",
        result.floor->convolutions, 1e3 * result.floor->seconds, 1e3 * result.floor->direct_seconds,
        result.step_p50_seconds / result.floor->seconds,
        result.step_p50_seconds / result.floor->direct_seconds);
  }
  if (!result.non_finite.empty()) text += "not finite: " + result.non_finite + "\n";
  return text + "\n" + op_table(result);
}

std::string bench_json(const BenchResult& result) {
  JsonWriter json;
  json.text("name", result.name);
  json.integer("batch", result.batch);
  json.integer("micro_batch", result.micro_batch);
  json.integer("height", result.height);
  json.integer("width", result.width);
  json.integer("ranks", result.ranks);
  json.integer("threads", result.threads);
  json.integer("steps", result.steps);
  json.number("images_per_second", result.images_per_second);
  json.number("step_p50_seconds", result.step_p50_seconds);
  json.number("step_p99_seconds", result.step_p99_seconds);
  json.number("first_step_seconds", result.first_step_seconds);
  json.integer("memory_peak_bytes", result.memory_peak_bytes);
  json.boolean("loss_finite", result.non_finite.empty());
  write_phases(result.phases, json);
  json.begin_array("ops");
  for (std::size_t i = 0; i < std::min(kShownOps, result.ops.size()); ++i) {
    write_op(result.ops[i], json);
  }
  json.end_array();
  if (result.floor) write_floor(result, json);
  return json.finish();
}

}  // namespace trainer
