// How `ridgeline params` prints.
#include <fmt/format.h>

#include "trainer/commands/json_writer.h"
#include "trainer/commands/params.h"
#include "trainer/report/text_table.h"

namespace trainer {
namespace {

// A normalisation divides its input by its own size, so the output of conv + norm is the same for
// w and for a w: van Laarhoven, 1706.05350; Kosson et al., 2305.17212.
constexpr const char* kScaleInvariantNote =
    "* scale-invariant: a normalisation follows, so multiplying the weight by a constant changes "
    "nothing the network computes.\n"
    "  Decay does not make such a weight's function simpler; it keeps |w| small and so its "
    "effective learning rate, lr / |w|^2, large.\n"
    "  At rest each step turns it by about sqrt(2 lr c), c the decay gradient. To exempt them: "
    "regularization.rules with match: {scale_invariant: true}.\n";

std::string number(double value) { return fmt::format("{:g}", value); }

std::string optional_number(const std::optional<double>& value, const char* format) {
  return value ? fmt::format(fmt::runtime(format), *value) : "-";
}

std::string mode_text(const LedgerEntry& entry) {
  if (!entry.trained || entry.gradient == 0) return "-";
  return std::string(to_string(entry.mode));
}

void text_row(const ParameterRow& row, TextTable& table) {
  const LedgerEntry& e = row.entry;
  const bool learns = e.trained && e.parameter.kind != models::ParameterKind::kStatistic;
  table.row({e.parameter.name + (e.parameter.scale_invariant ? " *" : ""),
             to_string(e.parameter.shape), e.group, number(e.l2), number(e.gradient), number(e.l1),
             mode_text(e), learns ? number(e.lr_scale) : "-", e.trained ? "trained" : "frozen",
             row.shrink ? number(*row.shrink) : "depends",
             optional_number(row.half_life_steps, "{:.0f}"),
             optional_number(row.half_life_epochs, "{:.1f}"), e.reason});
}

void write_row(const ParameterRow& row, JsonWriter& json) {
  const LedgerEntry& e = row.entry;
  json.begin_object();
  json.text("name", e.parameter.name);
  json.begin_array("shape");
  for (int d = 0; d < e.parameter.shape.rank; ++d) json.value(e.parameter.shape[d]);
  json.end_array();
  json.integer("elements", row.elements);
  json.text("kind", to_string(e.parameter.kind));
  json.text("group", e.group);
  json.number("l2", e.l2);
  json.number("gradient", e.gradient);
  json.number("l1", e.l1);
  json.text("mode", to_string(e.mode));
  json.number("lr_scale", e.lr_scale);
  json.boolean("trained", e.trained);
  json.boolean("scale_invariant", e.parameter.scale_invariant);
  json.number("shrink_per_step", row.shrink);
  json.number("half_life_steps", row.half_life_steps);
  json.number("half_life_epochs", row.half_life_epochs);
  json.text("reason", e.reason);
  json.end_object();
}

void write_totals(const GroupTotal& group, JsonWriter& json) {
  json.text("group", group.group);
  json.integer("tensors", group.tensors);
  json.integer("elements", group.elements);
  json.end_object();
}

std::string group_table(const ParamsReport& report) {
  TextTable table({{"group"}, {"tensors", Align::kRight}, {"elements", Align::kRight}});
  for (const GroupTotal& g : report.groups) {
    table.row({g.group, format_count(g.tensors), format_count(g.elements)});
  }
  table.total({"total", format_count(report.total.tensors), format_count(report.total.elements)});
  return table.text();
}

}  // namespace

std::string params_text(const ParamsReport& report) {
  TextTable table({{"parameter"},
                   {"shape"},
                   {"group"},
                   {"l2", Align::kRight},
                   {"gradient", Align::kRight},
                   {"l1", Align::kRight},
                   {"mode"},
                   {"lr x", Align::kRight},
                   {"state"},
                   {"shrink/step", Align::kRight},
                   {"half-life", Align::kRight},
                   {"epochs", Align::kRight},
                   {"decided by"}});
  bool scale_invariant = false, depends = false;
  for (const ParameterRow& row : report.rows) {
    text_row(row, table);
    scale_invariant |= row.entry.parameter.scale_invariant;
    depends |= !row.shrink;
  }
  std::string text = table.text() + "\n" + group_table(report) + "\n";
  text += fmt::format(
      "gradient: c of the decay gradient c w. shrink/step: share of a weight that decay alone "
      "removes at lr {:g}, its schedule aside;\n  half-life in steps.\n",
      report.lr);
  if (depends) {
    text +=
        "depends: this rule divides a coupled decay by the gradient's own scale, so no "
        "constant exists; mode decoupled has one.\n";
  }
  if (scale_invariant) text += kScaleInvariantNote;
  return text;
}

std::string params_json(const ParamsReport& report) {
  JsonWriter json;
  json.text("name", report.name);
  json.number("lr", report.lr);
  json.begin_array("parameters");
  for (const ParameterRow& row : report.rows) write_row(row, json);
  json.end_array();
  json.begin_array("groups");
  for (const GroupTotal& group : report.groups) {
    json.begin_object();
    write_totals(group, json);
  }
  json.end_array();
  json.begin_object("total");
  write_totals(report.total, json);
  return json.finish();
}

}  // namespace trainer
