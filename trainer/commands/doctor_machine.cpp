#include "trainer/commands/doctor_machine.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "comm/buffer.h"
#include "trainer/report/step_meter.h"

namespace trainer {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;
constexpr std::int64_t kMiB = std::int64_t{1} << 20;

std::string read_text(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<std::int64_t> parse(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} ? std::optional(value) : std::nullopt;
}

Fact size_fact(const std::string& key, std::optional<std::int64_t> bytes,
               const char* absent = "unknown") {
  if (!bytes) return {key, absent};
  return {key, format_bytes(*bytes), static_cast<double>(*bytes)};
}

std::optional<std::int64_t> space_of(const char* path) {
  std::error_code error;
  const auto space = std::filesystem::space(path, error);
  if (error) return std::nullopt;
  return static_cast<std::int64_t>(space.available);
}

std::optional<std::int64_t> limit_of(decltype(RLIMIT_NOFILE) which) {
  rlimit limit{};
  if (getrlimit(which, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return static_cast<std::int64_t>(limit.rlim_cur);
}

double seconds_of(comm::Communicator& communicator, const std::function<void()>& work) {
  constexpr int kRuns = 5;
  double best = 1e30;
  for (int run = 0; run < kRuns; ++run) {
    communicator.barrier();
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
  }
  communicator.all_reduce(std::span<double>(&best, 1), comm::Reduction::kMax);
  return best;
}

Fact rate_fact(const std::string& key, std::int64_t bytes, double seconds) {
  const double rate = static_cast<double>(bytes) / seconds;
  return {key, fmt::format("{:.2f} GB/s received a rank ({:.1f} ms)", 1e-9 * rate, 1e3 * seconds),
          rate};
}

}  // namespace

std::optional<std::int64_t> meminfo_bytes(std::string_view text, std::string_view key) {
  const std::size_t at = text.find(std::string(key) + ":");
  if (at == std::string_view::npos) return std::nullopt;
  const std::size_t digit = text.find_first_of("0123456789", at + key.size());
  if (digit == std::string_view::npos) return std::nullopt;
  const auto kib = parse(text.substr(digit));
  return kib ? std::optional(*kib * 1024) : std::nullopt;
}

Looked memory_facts(int) {
  const std::string info = read_text("/proc/meminfo");
  const auto total = meminfo_bytes(info, "MemTotal");
  const auto available = meminfo_bytes(info, "MemAvailable");
  const auto group = parse(read_text("/sys/fs/cgroup/memory.max"));
  Looked looked{{"memory",
                 {size_fact("total", total), size_fact("available", available),
                  size_fact("group limit", group, "none")}},
                {}};
  const std::int64_t usable =
      std::min(available.value_or(kGiB * 1024), group.value_or(kGiB * 1024));
  if (usable < 2 * kGiB) {
    looked.findings.push_back(
        {"only " + format_bytes(usable) + " of memory can be used",
         "RetinaNet-R50 at 256 pixels takes about 1 GiB a rank; end other programs, or use fewer "
         "ranks and a smaller train.micro_batch"});
  }
  return looked;
}

Looked disk_facts(int) {
  const auto free = space_of(".");
  Looked looked{{"disk", {size_fact("free in working directory", free)}}, {}};
  if (free && *free < kGiB) {
    looked.findings.push_back({"only " + format_bytes(*free) + " free in the working directory",
                               "a run keeps checkpoint.keep checkpoints of up to three times the "
                               "model's size; give --out a folder on another disk"});
  }
  return looked;
}

Looked limit_facts(int num_ranks) {
  const auto files = limit_of(RLIMIT_NOFILE), stack = limit_of(RLIMIT_STACK);
  const auto shared = space_of("/dev/shm");
  Looked looked{{"limits",
                 {files ? Fact{"open files", std::to_string(*files), static_cast<double>(*files)}
                        : Fact{"open files", "unlimited"},
                  size_fact("stack", stack, "unlimited"), size_fact("/dev/shm", shared)}},
                {}};
  if (files && *files < 256) {
    looked.findings.push_back({fmt::format("at most {} open files", *files), "ulimit -n 1024"});
  }
  if (stack && *stack < kMiB) {
    looked.findings.push_back({"a stack of " + format_bytes(*stack), "ulimit -s 8192"});
  }
  if (num_ranks > 1 && shared && *shared < 64 * kMiB) {
    looked.findings.push_back({"only " + format_bytes(*shared) +
                                   " free in /dev/shm, through which MPI's ranks of one "
                                   "host talk",
                               "start the container with a larger one (docker run --shm-size=1g)"});
  }
  return looked;
}

FactSection bandwidth_facts(comm::Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  const std::int64_t floats = kBandwidthBytes / 4;
  const comm::Buffer whole(comm::Device{}, static_cast<std::size_t>(kBandwidthBytes) * size,
                           comm::Fill::kZero);
  const double gather =
      seconds_of(communicator, [&] { communicator.all_gather(whole.as<float>())->wait(); });
  const auto piece = [&](int index) {
    return whole.as<float>(static_cast<std::size_t>(kBandwidthBytes) * index,
                           static_cast<std::size_t>(floats));
  };
  const std::vector<comm::Message> sends = {{(rank + 1) % size, piece(0)}};
  const std::vector<comm::Message> receives = {{(rank + size - 1) % size, piece(1)}};
  const double ring =
      seconds_of(communicator, [&] { communicator.exchange(sends, receives, 0)->wait(); });
  return {"bandwidth",
          {rate_fact("all-gather", kBandwidthBytes * (size - 1), gather),
           rate_fact("exchange", kBandwidthBytes, ring)}};
}

}  // namespace trainer
