#include "trainer/non_finite.h"

#include <algorithm>

namespace trainer {
namespace {

class NonFiniteSearch final : public models::StepObserver {
 public:
  explicit NonFiniteSearch(const models::Executable& executable) : executable_(executable) {}
  bool watches_steps() const override { return true; }
  void after(const models::PlanStep& step, const models::Kernel&) override {
    if (found.empty()) found = executable_.first_non_finite(step);
  }
  std::string found;

 private:
  const models::Executable& executable_;
};

}  // namespace

std::string first_non_finite_op(models::Executable& executable, std::int64_t parameter_version) {
  const auto& steps = executable.plan().steps;
  const auto backward = std::ranges::find(steps, models::StepKind::kBackward,
                                          [](const models::PlanStep& step) { return step.kind; });
  NonFiniteSearch search(executable);
  executable.run(search, parameter_version, 0, static_cast<std::size_t>(backward - steps.begin()));
  return search.found.empty() ? "the loss" : search.found;
}

}  // namespace trainer
