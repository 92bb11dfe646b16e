#include "trainer/commands/doctor_gpus.h"

#include <fmt/format.h>

#include "comm/error.h"
#include "trainer/report/step_meter.h"

namespace trainer {
namespace {

std::string driver_text(const comm::GpuSurvey& survey) {
  if (survey.driver == 0) return "none";
  return fmt::format("{}{}serves CUDA {}", survey.driver_release,
                     survey.driver_release.empty() ? "" : ", ",
                     comm::cuda_version_text(survey.driver));
}

Fact library_fact(const char* name, int version, std::string (*text)(int)) {
  return {name, version == 0 ? "not linked" : text(version)};
}

Fact device_fact(const comm::Gpu& gpu, const std::string& free_text) {
  return {fmt::format("cuda:{}", gpu.index),
          fmt::format("{}, {} ({}), compute capability {:.1f}", gpu.name,
                      format_bytes(gpu.memory_bytes), free_text, gpu.capability / 10.0)};
}

}  // namespace

Looked gpu_facts(const GpuView& view, const std::function<std::int64_t(const comm::Gpu&)>& free) {
  const comm::GpuSurvey& survey = view.survey;
  const comm::GpuLibraries& libraries = view.libraries;
  const std::string problem = gpu_problem(view);
  Looked looked{{"gpu",
                 {{"device auto", problem.empty() ? "the local rank's GPU" : "cpu: " + problem},
                  {"driver", driver_text(survey)},
                  library_fact("runtime", libraries.runtime, comm::cuda_version_text),
                  library_fact("cudnn", libraries.cudnn, version_text),
                  library_fact("nccl", libraries.nccl, version_text)}},
                {}};
  for (const comm::Gpu& gpu : survey.gpus) {
    std::string free_text = "cannot be used";
    try {
      free_text = format_bytes(free(gpu)) + " free";
    } catch (const comm::Error& e) {
      looked.findings.push_back({e.what(), "leave it out with CUDA_VISIBLE_DEVICES until then"});
    }
    looked.section.facts.push_back(device_fact(gpu, free_text));
  }
  if (!survey.gpus.empty() && !problem.empty()) {
    looked.findings.push_back({fmt::format("a GPU is here ({}) and cannot be computed on: {}",
                                           survey.gpus[0].name, problem),
                               libraries.runtime == 0
                                   ? "build the cuda preset; until then runs take the CPU"
                                   : "until then runs take the CPU"});
  } else if (survey.driver != 0 && survey.gpus.empty()) {
    looked.findings.push_back({survey.problem, "run `nvidia-smi`; until then runs take the CPU"});
  }
  return looked;
}

std::string version_text(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

}  // namespace trainer
