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

}  // namespace

InputSpeed run_input_bench(const Config& config, int steps, comm::Communicator& communicator,
                           comm::Progress& progress) {
  progress.allow_step(config.runtime.stall_seconds);
  LoaderOptions options;
  options.fields = fields_of(config.model.name);
  options.seed = static_cast<std::uint64_t>(config.train.seed);
  options.batch = config.train.batch;
  options.micro_batch = config.train.micro_batch;
  options.rank = communicator.rank();
  options.num_ranks = communicator.size();
  options.threads = decoding_threads(config.runtime, communicator);
  options.device = choose_device(config.runtime, communicator);
  std::unique_ptr<Dataset> data;
  std::unique_ptr<Loader> loader;
  agree(communicator, [&] {
    data = open_dataset(config.data, {.fields = options.fields,
                                      .model_num_classes = config.model.num_classes.value_or(0)});
    loader = Loader::train(*data, config.data, options);
  });
  const auto read_steps = [&](std::int64_t count) {
    agree(communicator, [&] {
      for (std::int64_t i = 0; i < count * loader->num_local_micro_batches(); ++i) {
        progress.publish(comm::Phase::kStep, i);
        loader->next();
      }
    });
  };
  read_steps(kWarmUpSteps);
  const double wall = wall_seconds(), processor = processor_seconds();
  read_steps(steps);
  double used[] = {processor_seconds() - processor};
  communicator.all_reduce(std::span<double>(used), comm::Reduction::kSum);
  const double images = static_cast<double>(config.train.batch) * steps;
  return {config.name,
          config.train.batch,
          communicator.size(),
          options.threads,
          steps,
          images / (wall_seconds() - wall),
          images / used[0]};
}

std::string input_text(const InputSpeed& speed) {
  return fmt::format(
      "{}: input alone, {} steps of {} images, {} rank{} x {} thread{}\n"
      "{:.1f} images/s; {:.1f} images/s a core that does nothing else\n",
      speed.name, speed.steps, speed.batch, speed.ranks, speed.ranks == 1 ? "" : "s", speed.threads,
      speed.threads == 1 ? "" : "s", speed.images_per_second, speed.images_per_core_second);
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
  return json.finish();
}

}  // namespace trainer
