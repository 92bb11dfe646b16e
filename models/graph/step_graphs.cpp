#include "models/graph/step_graphs.h"

#include "comm/error.h"

namespace models {

void StepGraphs::begin(std::int64_t parameter_version, bool plain) {
  const bool changed = last_ != parameter_version;
  last_.reset();
  running_ = parameter_version;
  graphs_ = changed ? &changed_ : &unchanged_;
  if (!enabled_ || plain || !started_) {
    mode_ = Mode::kPlain;
  } else if (graphs_->complete) {
    mode_ = Mode::kReplay;
  } else {
    mode_ = Mode::kRecord;
    graphs_->of.clear();
  }
  // A replay prepares what its kernels prepared when they were recorded, unseen by them.
  if (changed && mode_ != Mode::kReplay) ++kernel_version_;
}

void StepGraphs::run(std::size_t begin, std::size_t end, const std::function<void()>& work) {
  if (begin == end) return;
  if (mode_ == Mode::kPlain) return work();
  auto found = graphs_->of.find({begin, end});
  if (mode_ == Mode::kRecord) {
    REQUIRE(found == graphs_->of.end(), "steps {} to {} run twice", begin, end);
    found = graphs_->of.emplace(std::pair(begin, end), comm::WorkGraph(stream_, work)).first;
  }
  REQUIRE(found != graphs_->of.end(), "steps {} to {} were not recorded", begin, end);
  found->second.launch(stream_);
}

void StepGraphs::end() {
  started_ = true;
  last_ = running_;
  if (mode_ == Mode::kRecord) graphs_->complete = true;
}

}  // namespace models
