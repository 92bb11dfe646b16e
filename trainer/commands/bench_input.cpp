#include "trainer/commands/bench_input.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>

#include "comm/threads.h"
#include "trainer/agree.h"
#include "trainer/commands/json_writer.h"
#include "trainer/data/loader.h"
#include "trainer/device.h"
#include "trainer/feed.h"

namespace trainer {
namespace {

constexpr int kWarmUpSteps = 1;

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Of all threads of this process.
double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int decoding_threads(const RuntimeConfig& runtime, comm::Communicator& communicator) {
  if (runtime.loader_threads > 0) return runtime.loader_threads;
  return runtime.threads > 0 ? runtime.threads : comm::default_threads(communicator);
}

struct Rates {
  double images_per_second, images_per_core_second;
};

// From a loader of its own, whose threads begin with the first step.
class InputWalk {
 public:
  InputWalk(comm::Communicator& communicator, comm::Progress& progress)
      : communicator_(communicator), progress_(progress) {}

  Rates measure(const Dataset& data, const Config& config, const LoaderOptions& options,
                int steps) const {
    std::unique_ptr<Loader> loader;
    agree(communicator_, [&] { loader = Loader::train(data, config.data, options); });
    read_steps(*loader, kWarmUpSteps);
    const double wall = wall_seconds(), processor = processor_seconds();
    read_steps(*loader, steps);
    double used[] = {processor_seconds() - processor};
    communicator_.all_reduce(std::span<double>(used), comm::Reduction::kSum);
    const double images = static_cast<double>(config.train.batch) * steps;
    return {images / (wall_seconds() - wall), images / used[0]};
  }

 private:
  void read_steps(Loader& loader, std::int64_t count) const {
    agree(communicator_, [&] {
      for (std::int64_t i = 0; i < count * loader.num_local_micro_batches(); ++i) {
        progress_.publish(comm::Phase::kStep, i);
        loader.next();
      }
    });
  }

  comm::Communicator& communicator_;
  comm::Progress& progress_;
};

}  // namespace

InputSpeed run_input_bench(const Config& config, int steps, comm::Communicator& communicator,
                           comm::Progress& progress) {
  progress.allow(config.runtime.stall_seconds);
  LoaderOptions options =
      training_input(config, communicator, choose_device(config.runtime, communicator),
                     decoding_threads(config.runtime, communicator));
  std::unique_ptr<Dataset> data;
  agree(communicator, [&] {
    data = open_dataset(config.data, {.fields = options.fields,
                                      .model_num_classes = config.model.num_classes.value_or(0)});
  });
  const InputWalk walk(communicator, progress);
  InputSpeed speed{config.name, config.train.batch, communicator.size(), options.threads, steps};
  if (options.device.kind == comm::DeviceKind::kCpu) {
    const Rates whole = walk.measure(*data, config, options, steps);
    speed.images_per_second = whole.images_per_second;
    speed.images_per_core_second = whole.images_per_core_second;
  }
  options.packed = true;
  const Rates packed = walk.measure(*data, config, options, steps);
  speed.packed_images_per_second = packed.images_per_second;
  speed.packed_images_per_core_second = packed.images_per_core_second;
  return speed;
}

std::string input_text(const InputSpeed& speed) {
  std::string text =
      fmt::format("{}: input alone, {} steps of {} images, {} rank{} x {} thread{}\n", speed.name,
                  speed.steps, speed.batch, speed.ranks, speed.ranks == 1 ? "" : "s", speed.threads,
                  speed.threads == 1 ? "" : "s");
  const auto line = [&](const char* what, double a_second, double a_core_second) {
    text += fmt::format("{}: {:.1f} images/s; {:.1f} images/s a core that does nothing else\n",
                        what, a_second, a_core_second);
  };
  if (speed.images_per_second > 0)
    line("for a CPU, to the network's input", speed.images_per_second,
         speed.images_per_core_second);
  line("for a GPU, which resizes itself", speed.packed_images_per_second,
       speed.packed_images_per_core_second);
  return text;
}

std::string input_json(const InputSpeed& speed) {
  JsonWriter json;
  json.text("name", speed.name);
  json.integer("batch", speed.batch);
  json.integer("ranks", speed.ranks);
  json.integer("threads", speed.threads);
  json.integer("steps", speed.steps);
  json.number("images_per_second", speed.images_per_second);
  json.number("images_per_core_second", speed.images_per_core_second);
  json.number("packed_images_per_second", speed.packed_images_per_second);
  json.number("packed_images_per_core_second", speed.packed_images_per_core_second);
  return json.finish();
}

}  // namespace trainer
