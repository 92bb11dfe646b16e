#include "trainer/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>

#include "comm/device_communicator.h"
#include "comm/threads.h"
#include "trainer/agree.h"
#include "trainer/report/step_meter.h"

namespace trainer {
namespace {

constexpr int kOldestCapability = 80;  // the first with bf16
constexpr std::chrono::seconds kNever = std::chrono::years(10);

// Groups of a search share their host with other groups, which the launcher counts and the group's
// communicator does not.
int position_on_host(const comm::Communicator& communicator) {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"}) {
    if (const char* value = std::getenv(name)) return std::max(0, std::atoi(value));
  }
  return comm::local_rank(communicator).rank;
}

// `auto` without a usable GPU is the CPU; `cuda` without one is a problem.
RankDevice gpu_or_cpu(const RuntimeConfig& runtime, const GpuView& view, int local_rank) {
  RankDevice chosen;
  const bool required = runtime.device == DeviceChoice::kCuda;
  const std::string problem = gpu_problem(view);
  if (!problem.empty()) {
    if (required)
      chosen.problem = "runtime.device cuda: " + problem + "; set runtime.device=cpu or auto";
    return chosen;
  }
  const auto& gpus = view.survey.gpus;
  const comm::Gpu& gpu = gpus[static_cast<std::size_t>(local_rank) % gpus.size()];
  if (gpu.capability >= kOldestCapability)
    return {comm::DeviceKind::kCuda, gpu.index, "", gpu.name, gpu.uuid, ""};
  if (required) {
    chosen.problem = fmt::format(
        "cuda:{} ({}) is too old: its compute capability is {:.1f}, {:.1f} is needed; set "
        "runtime.device=cpu",
        gpu.index, gpu.name, gpu.capability / 10.0, kOldestCapability / 10.0);
  }
  return chosen;
}

}  // namespace

GpuView gpu_view() { return {comm::survey_gpus(), comm::gpu_libraries()}; }

std::string gpu_problem(const GpuView& view) {
  const comm::GpuSurvey& survey = view.survey;
  const comm::GpuLibraries& libraries = view.libraries;
  if (libraries.runtime == 0) return "this build has no CUDA; `launch/build cuda` makes one";
  if (libraries.cudnn == 0) return "this build has no convolutions for GPUs";
  if (survey.driver != 0 && survey.driver / 1000 < libraries.runtime / 1000) {
    return fmt::format("the NVIDIA driver{}{} is too old: it serves CUDA {}, this build needs {}",
                       survey.driver_release.empty() ? "" : " ", survey.driver_release,
                       comm::cuda_version_text(survey.driver),
                       comm::cuda_version_text(libraries.runtime));
  }
  return survey.problem;
}

RankDevice rank_device(const RuntimeConfig& runtime, const GpuView& view, int local_rank) {
  RankDevice chosen;
  if (runtime.device != DeviceChoice::kCpu) chosen = gpu_or_cpu(runtime, view, local_rank);
  if (chosen.problem.empty() && chosen.kind == comm::DeviceKind::kCpu &&
      runtime.precision == Precision::kBf16) {
    chosen.problem = "runtime.precision: bf16 needs a GPU; set runtime.precision=fp32 or auto";
  }
  return chosen;
}

std::string device_conflict(const RuntimeConfig& runtime, std::span<const RankDevice> ranks) {
  std::map<std::string, std::size_t> rank_of_gpu;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const RankDevice& rank = ranks[r];
    if (!rank.problem.empty()) {
      return ranks.size() == 1 ? rank.problem
                               : fmt::format("rank {} on {}: {}", r, rank.host, rank.problem);
    }
    if (rank.kind != ranks[0].kind) {
      const std::size_t cpu = rank.kind == comm::DeviceKind::kCpu ? r : 0;
      return fmt::format(
          "rank {} on {} has no usable GPU, others have; `ridgeline doctor` there "
          "says why; set runtime.device=cpu for all, or leave that host out",
          cpu, ranks[cpu].host);
    }
    if (rank.kind == comm::DeviceKind::kCpu || runtime.share_gpu) continue;
    const auto [taken, is_new] = rank_of_gpu.emplace(rank.host + rank.gpu_uuid, r);
    if (!is_new) {
      return fmt::format(
          "ranks {} and {} on {} would share one GPU, cuda:{} ({}); start one rank "
          "a GPU, or set runtime.share_gpu=true or runtime.device=cpu",
          taken->second, r, rank.host, rank.index, rank.gpu_name);
    }
  }
  return "";
}

std::vector<RankDevice> gather_devices(const RuntimeConfig& runtime, const GpuView& view,
                                       comm::Communicator& communicator) {
  RankDevice mine = rank_device(runtime, view, position_on_host(communicator));
  mine.host = communicator.host(communicator.rank());
  std::vector<RankDevice> ranks;
  for (const std::string& line : communicator.all_gather(pack(mine))) {
    ranks.push_back(unpack_rank_device(line));
  }
  return ranks;
}

comm::Device choose_device(const RuntimeConfig& runtime, comm::Communicator& communicator) {
  GpuView view{{}, comm::gpu_libraries()};
  // A driver that is not needed is not started: that takes time.
  if (runtime.device != DeviceChoice::kCpu && view.libraries.cudnn != 0) view = gpu_view();
  const std::vector<RankDevice> ranks = gather_devices(runtime, view, communicator);
  if (const std::string conflict = device_conflict(runtime, ranks); !conflict.empty()) {
    throw AgreedError(comm::ExitCode::kDevice, conflict);
  }
  const RankDevice& mine = ranks[static_cast<std::size_t>(communicator.rank())];
  return {mine.kind, mine.index};
}

std::unique_ptr<comm::Communicator> bulk_communicator(const RuntimeConfig& runtime,
                                                      comm::Communicator& control,
                                                      comm::StreamView stream) {
  if (stream.on_cpu() || control.size() == 1) return nullptr;
  comm::DeviceCommunicatorOptions options;
  options.share_gpu = runtime.share_gpu;
  // The heartbeat, which can name who stands still, speaks first.
  const auto stall = std::chrono::seconds(static_cast<std::int64_t>(runtime.stall_seconds));
  options.step_deadline = stall.count() > 0 ? stall + std::chrono::seconds(30) : kNever;
  options.init_deadline = std::max(options.init_deadline, options.step_deadline);
  return comm::device_communicator(control, stream, options);
}

bool exact_reduction(const RuntimeConfig& runtime, comm::DeviceKind device, bool has_nccl) {
  if (runtime.reduction != Reduction::kAuto) return runtime.reduction == Reduction::kExact;
  return device == comm::DeviceKind::kCpu || runtime.share_gpu || !has_nccl;
}

bool exact_reduction(const RuntimeConfig& runtime, comm::Device device) {
  return exact_reduction(runtime, device.kind, comm::gpu_libraries().nccl != 0);
}

std::string gpu_name(comm::Device device) {
  for (const comm::Gpu& gpu : comm::survey_gpus().gpus) {
    if (gpu.index == device.index) return gpu.name;
  }
  return "gone";
}

void require_memory(comm::Device device, std::int64_t wanted_bytes) {
  if (device.kind == comm::DeviceKind::kCpu) return;
  const comm::GpuSurvey survey = comm::survey_gpus();
  for (const comm::Gpu& gpu : survey.gpus) {
    if (gpu.index != device.index) continue;
    const std::int64_t free_bytes = comm::free_gpu_bytes(gpu);
    if (wanted_bytes <= free_bytes) return;
    comm::fail(comm::ExitCode::kDevice,
               "{} ({}) is too small: the run takes at least {} and {} of {} are free; use a "
               "smaller train.micro_batch or data.size, or end other programs on this GPU",
               comm::to_string(device), gpu.name, format_bytes(wanted_bytes),
               format_bytes(free_bytes), format_bytes(gpu.memory_bytes));
  }
  comm::fail(comm::ExitCode::kDevice, "{} is gone: {}", comm::to_string(device), survey.problem);
}

std::string pack(const RankDevice& device) {
  return fmt::format("{}\t{}\t{}\t{}\t{}\t{}", static_cast<int>(device.kind), device.index,
                     device.host, device.gpu_name, device.gpu_uuid, device.problem);
}

RankDevice unpack_rank_device(const std::string& line) {
  RankDevice device;
  std::istringstream fields(line);
  std::string kind, index;
  for (std::string* field :
       {&kind, &index, &device.host, &device.gpu_name, &device.gpu_uuid, &device.problem}) {
    std::getline(fields, *field, '\t');
  }
  device.kind = static_cast<comm::DeviceKind>(std::atoi(kind.c_str()));
  device.index = std::atoi(index.c_str());
  return device;
}

}  // namespace trainer
