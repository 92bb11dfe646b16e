#include "trainer/tasks/answer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace trainer {
namespace {

// Where a pixel of the original lies between pixels of the network's output.
struct Tap {
  std::int64_t low, high;
  float fraction;  // of `high`
};

std::vector<Tap> taps(int original, double scale, double offset, int content) {
  std::vector<Tap> result;
  for (int i = 0; i < original; ++i) {
    const double at = std::clamp((i + 0.5) * scale + offset - 0.5, 0.0, content - 1.0);
    const auto low = static_cast<std::int64_t>(at);
    result.push_back({low, std::min<std::int64_t>(low + 1, content - 1),
                      static_cast<float>(at - static_cast<double>(low))});
  }
  return result;
}

// Rank after rank.
template <typename T>
std::vector<T> gather(const std::vector<T>& mine, comm::Communicator& communicator) {
  std::vector<T> all;
  for (const std::string& bytes : communicator.all_gather(
           std::string(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(T)))) {
    const std::size_t old = all.size();
    all.resize(old + bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(all.data() + old, bytes.data(), bytes.size());
  }
  return all;
}

}  // namespace

std::vector<Answer> read_detections(const HostOutputs& outputs, const Batch& batch, int n) {
  const models::Tensor boxes = outputs.output("boxes"), scores = outputs.output("scores");
  const models::Tensor labels = outputs.output("labels");
  const std::int32_t count = outputs.output("count").as<std::int32_t>()[n];
  const std::int64_t capacity = scores.shape[1];
  std::vector<Answer> answers;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t at = n * capacity + k;
    const float* b = boxes.f32() + at * 4;
    const Corners original =
        to_original(batch.geometry[static_cast<std::size_t>(n)], {b[0], b[1], b[2], b[3]});
    Answer answer{batch.sample_id[static_cast<std::size_t>(n)], labels.as<std::int32_t>()[at],
                  scores.f32()[at]};
    std::copy(original.begin(), original.end(), answer.box);
    answers.push_back(answer);
  }
  return answers;
}

LabelImage read_label_map(const HostOutputs& outputs, const Batch& batch, int n) {
  const models::Tensor out = outputs.output("out");
  const std::int64_t classes = out.shape[1], width = out.shape[3], plane = out.shape[2] * width;
  const float* logits = out.f32() + n * classes * plane;
  const Geometry& g = batch.geometry[static_cast<std::size_t>(n)];
  const std::vector<Tap> rows = taps(g.original_h, g.scale_y, g.offset_y, g.content_h);
  const std::vector<Tap> columns = taps(g.original_w, g.scale_x, g.offset_x, g.content_w);
  LabelImage labels{g.original_w, g.original_h, {}};
  labels.pixels.reserve(rows.size() * columns.size());
  std::vector<float> best(columns.size());
  std::vector<std::uint16_t> line(columns.size());
  for (const Tap& row : rows) {
    for (std::int64_t k = 0; k < classes; ++k) {
      const float* above = logits + k * plane + row.low * width;
      const float* below = logits + k * plane + row.high * width;
      for (std::size_t x = 0; x < columns.size(); ++x) {
        const auto [low, high, fraction] = columns[x];
        const float top = above[low] + fraction * (above[high] - above[low]);
        const float bottom = below[low] + fraction * (below[high] - below[low]);
        const float value = top + row.fraction * (bottom - top);
        if (k == 0 || value > best[x]) {
          best[x] = value;
          line[x] = static_cast<std::uint16_t>(k);
        }
      }
    }
    labels.pixels.insert(labels.pixels.end(), line.begin(), line.end());
  }
  return labels;
}

std::vector<Answer> shares_of_classes(const LabelImage& labels, std::int64_t sample) {
  std::vector<std::int64_t> counts;
  for (const std::uint16_t label : labels.pixels) {
    if (label >= counts.size()) counts.resize(label + std::size_t{1});
    ++counts[label];
  }
  std::vector<Answer> answers;
  for (std::size_t k = 0; k < counts.size(); ++k) {
    if (counts[k] == 0) continue;
    const double share = static_cast<double>(counts[k]) / static_cast<double>(labels.pixels.size());
    answers.push_back({sample, static_cast<std::int32_t>(k), static_cast<float>(share)});
  }
  std::stable_sort(answers.begin(), answers.end(),
                   [](const Answer& a, const Answer& b) { return a.score > b.score; });
  return answers;
}

std::vector<Answer> read_classes(const HostOutputs& outputs, const Batch& batch, int n, int count) {
  const models::Tensor out = outputs.output("logits");
  const std::int64_t classes = out.shape[1];
  const float* logits = out.f32() + n * classes;
  const double largest = *std::max_element(logits, logits + classes);
  double sum = 0;
  for (std::int64_t k = 0; k < classes; ++k) sum += std::exp(logits[k] - largest);
  std::vector<Answer> answers;
  for (std::int64_t k = 0; k < classes; ++k) {
    answers.push_back({batch.sample_id[static_cast<std::size_t>(n)], static_cast<std::int32_t>(k),
                       static_cast<float>(std::exp(logits[k] - largest) / sum)});
  }
  std::stable_sort(answers.begin(), answers.end(),
                   [](const Answer& a, const Answer& b) { return a.score > b.score; });
  answers.resize(std::min(answers.size(), static_cast<std::size_t>(count)));
  return answers;
}

std::vector<CocoDetection> coco_detections(const std::vector<Answer>& answers,
                                           const Dataset& dataset) {
  std::vector<CocoDetection> detections;
  for (const Answer& a : answers) {
    const std::int64_t category = dataset.category_id(a.label);
    if (category < 0) continue;  // an index without a class: the background's, or a gap
    CocoDetection d;
    d.image_id = dataset.sample(a.sample).image_id;
    d.category_id = category;
    d.has_bbox = true;
    d.bbox = {a.box[0], a.box[1], a.box[2] - a.box[0], a.box[3] - a.box[1]};
    d.score = a.score;
    detections.push_back(std::move(d));
  }
  return detections;
}

std::vector<Answer> gather_answers(const std::vector<Answer>& mine,
                                   comm::Communicator& communicator) {
  std::vector<Answer> answers = gather(mine, communicator);
  std::ranges::stable_sort(answers, {}, &Answer::sample);
  return answers;
}

std::vector<std::int64_t> gather_samples(const std::vector<std::int64_t>& mine,
                                         comm::Communicator& communicator) {
  std::vector<std::int64_t> samples = gather(mine, communicator);
  std::ranges::sort(samples);
  return samples;
}

}  // namespace trainer
