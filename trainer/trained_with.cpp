#include "trainer/trained_with.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "comm/error.h"
#include "trainer/checkpoint/identity.h"
#include "trainer/checkpoint/text.h"
#include "trainer/config/load.h"

namespace trainer {
namespace {

constexpr const char* kNote = "classes";

// Keys under which the same weights and image give another answer.
constexpr std::array kOfAnswers = {"model.anchors.sizes", "model.anchors.ratios",
                                   "model.norm_eps",      "model.deconvolution",
                                   "data.mean",           "data.std",
                                   "data.size",           "data.resize",
                                   "data.short_side",     "data.antialias"};

std::vector<ConfigEntry> of_answers(std::vector<ConfigEntry> entries) {
  std::erase_if(entries, [](const ConfigEntry& e) {
    return std::find(kOfAnswers.begin(), kOfAnswers.end(), e.key) == kOfAnswers.end();
  });
  return entries;
}

}  // namespace

ClassNames class_names_by_label(const Dataset& dataset, int num_classes) {
  ClassNames names;
  for (int label = 0; label < num_classes; ++label) names.push_back(dataset.class_name(label));
  return names;
}

void note_classes(CheckpointMeta& meta, const ClassNames& names) {
  std::string text;
  for (std::string name : names) {
    std::replace(name.begin(), name.end(), '\n', ' ');
    text += name + "\n";
  }
  meta.notes[kNote] = text;
}

ClassNames noted_classes(const CheckpointMeta& meta) {
  ClassNames names;
  const auto note = meta.notes.find(kNote);
  if (note == meta.notes.end()) return names;
  const std::string& text = note->second;
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    names.push_back(text.substr(begin, end - begin));
  }
  return names;
}

void require_same_labels(const CheckpointMeta& meta, const Config& config, const ClassNames& names,
                         const Notify& notify) {
  const ClassNames trained = noted_classes(meta);
  std::string renamed;
  for (std::size_t label = 0; label < std::min(trained.size(), names.size()); ++label) {
    const std::string &then = trained[label], &now = names[label];
    if (then.empty() || now.empty() || then == now) continue;
    const auto other = std::find(trained.begin(), trained.end(), now);
    if (other != trained.end()) {
      comm::fail(comm::ExitCode::kCheckpointRefused,
                 "class {} has label {} here and had {} in training; give this data the classes of "
                 "the training data in their order (data.only, or the same class folders): {}",
                 quote_text(now), label, other - trained.begin(), fmt::join(trained, ", "));
    }
    renamed += fmt::format("{}{} {} is {} here", renamed.empty() ? "" : ", ", label,
                           quote_text(then), quote_text(now));
  }
  if (!renamed.empty()) notify("warning: the weights were trained on other classes: " + renamed);
  std::vector<ConfigEntry> entries;
  for (const KeyValue& key : key_values(config))
    entries.push_back({.key = key.key, .value = key.value, .is_default = key.is_default});
  if (meta.config.empty()) return;
  for (const ConfigDifference& d : compare_config(of_answers(meta.config), of_answers(entries))) {
    notify(fmt::format("warning: the weights were trained with {} {}, here it is {}", d.key,
                       quote_text(d.saved), quote_text(d.now)));
  }
}

}  // namespace trainer
