// ridgeline plan CONFIG
#include "trainer/commands/plan.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "trainer/agree.h"
#include "trainer/commands/data_facts.h"
#include "trainer/commands/plan_overlap.h"
#include "trainer/commands/verbs.h"
#include "trainer/config/read.h"
#include "trainer/device.h"
#include "trainer/network.h"
#include "trainer/optim/sharded_optimizer.h"
#include "trainer/report/step_meter.h"

namespace trainer {
namespace {

std::int64_t num_micro_batches(const Config& config) {
  return config.train.batch / config.train.micro_batch;
}

// As a build with NCCL would do it, whatever this one has.
bool is_exact(const Config& config, const PlanArguments& arguments) {
  return exact_reduction(config.runtime, arguments.device, /*has_nccl=*/true);
}

int num_states(const Config& config) {
  const bool lars = config.optimizer.name == OptimizerName::kLars;
  const int states = static_cast<int>(state_names(config.optimizer).size());
  return (lars ? 1 : states) + (config.ema.decay > 0 ? 1 : 0);
}

std::string state_list(const Config& config) {
  std::vector<std::string> names = state_names(config.optimizer);
  if (names.empty() && config.optimizer.name == OptimizerName::kLars) names = {"momentum"};
  if (config.ema.decay > 0) names.push_back("ema");
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string update_gate(const Config& config) {
  if (config.clip.norm > 0) {
    return fmt::format(
        "after the global norm (clip.norm {:g}): no bucket is updated before every "
        "gradient is known",
        config.clip.norm);
  }
  if (config.optimizer.name == OptimizerName::kLars) {
    return "at once, after the norms of the bucket's own tensors (lars)";
  }
  return "at once: a bucket is updated when its gradients are reduced";
}

// "[4, 6) [6, 7)": the micro-batches of each subtree.
std::string subtree_list(std::int64_t total, const MicroBatches& range) {
  std::string text;
  for (const TreeNode& node : subtrees_of(total, range)) {
    const std::int64_t begin = node.index << node.level;
    const std::int64_t end = std::min(begin + (std::int64_t{1} << node.level), total);
    text += fmt::format("{}[{}, {})", text.empty() ? "" : " ", begin, end);
  }
  return text;
}

std::string rank_lines(const Config& config, const PlanArguments& arguments) {
  const bool exact = is_exact(config, arguments);
  std::string text;
  for (int rank = 0; rank < arguments.ranks; ++rank) {
    const MicroBatches range = micro_batches_of(num_micro_batches(config), rank, arguments.ranks);
    text += fmt::format("rank {}: micro-batches [{}, {})", rank, range.begin, range.end);
    if (exact && arguments.ranks > 1) {
      text += "; sends sums over " + subtree_list(num_micro_batches(config), range);
    }
    text += "\n";
  }
  return text;
}

// Sums that a rank sends of each bucket of gradients, at most: its subtrees, where the tree is
// fixed.
std::int64_t sums_sent(const Config& config, const PlanArguments& arguments) {
  if (!is_exact(config, arguments)) return 1;
  std::int64_t most = 1;
  for (int rank = 0; rank < arguments.ranks; ++rank) {
    const std::int64_t total = num_micro_batches(config);
    const MicroBatches range = micro_batches_of(total, rank, arguments.ranks);
    most = std::max(most, std::ssize(subtrees_of(total, range)));
  }
  return most;
}

std::string head(const Config& config, const PlanArguments& arguments,
                 const models::ParameterLayout& layout) {
  const std::int64_t bytes = optimizer_bytes_per_rank(config, layout);
  return fmt::format(
      "config: {}\nbatch: {} images = {} micro-batches of {}\n"
      "optimizer: {}, state {}: {} bytes a rank ({})\nupdate gate: {}\nreduction: {}\n{}",
      config.name, config.train.batch, num_micro_batches(config), config.train.micro_batch,
      to_string(config.optimizer.name), state_list(config), bytes, format_bytes(bytes),
      update_gate(config),
      is_exact(config, arguments)
          ? "exact, one fixed tree over the micro-batches on any number of ranks"
          : "fast, in the order the library chooses",
      rank_lines(config, arguments));
}

struct Options {
  ConfigArguments config;
  std::string device;
  int ranks = 1;
};

void run_plan(const Options& options, const CommandContext& context) {
  const Config config = load_agreed_config(options.config, context.communicator).config;
  PlanArguments arguments{comm::DeviceKind::kCpu, options.ranks};
  const bool configured = options.device.empty();
  if (configured ? config.runtime.device == DeviceChoice::kCuda : options.device == "cuda") {
    arguments.device = comm::DeviceKind::kCuda;
  }
  agree(context.communicator, [&] {
    if (context.is_root()) std::fputs(plan_text(config, arguments).c_str(), stdout);
  });
}

}  // namespace

std::int64_t optimizer_bytes_per_rank(const Config& config, const models::ParameterLayout& layout) {
  std::int64_t elements = 0;  // of rank 0, whose shards are never cut short by a bucket's end
  for (const models::Bucket& bucket : layout.buckets) {
    elements += std::min(bucket.size, bucket.shard_elements);
  }
  return elements * num_states(config) * static_cast<std::int64_t>(sizeof(float));
}

std::string plan_text(const Config& config, const PlanArguments& arguments) {
  const std::int64_t total = num_micro_batches(config);
  if (arguments.ranks > total) {
    comm::fail(comm::ExitCode::kConfig,
               "--ranks {}: train.batch {} is {} micro-batches of {}; use at most {} ranks, or a "
               "smaller train.micro_batch or a larger train.batch",
               arguments.ranks, config.train.batch, total, config.train.micro_batch, total);
  }
  const auto model = configured_model(config, required_num_classes(config));
  models::PlanOptions options{arguments.device, arguments.ranks, true};
  const bool wide = config.runtime.precision == Precision::kFp32;
  if (arguments.device == comm::DeviceKind::kCuda && !wide) {
    options.precision = models::Precision::kBf16;
  }
  std::string text;
  for (std::size_t b = 0; b < config.data.size.size(); ++b) {
    const models::BatchShape shape =
        micro_batch_shape(config, config.data.size[b], num_channels(config.data.format));
    const models::Plan plan = make_plan(*model, shape, options);
    if (b == 0) {
      options.layout = plan.layout;
      text = head(config, arguments, *plan.layout);
    }
    text += fmt::format("\nsize {} of {}: {} x {}\n", b + 1, config.data.size.size(), shape.height,
                        shape.width);
    text += overlap_text(plan, sums_sent(config, arguments)) + to_text(plan);
  }
  return text;
}

void add_plan(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand("plan", "the training step as text; needs no data and no device");
  verb->footer("Example: ridgeline plan configs/retinanet_r50_fpn_coco.yaml --ranks 8");
  auto options = std::make_shared<Options>();
  add_config_arguments(*verb, options->config);
  verb->add_option("--device", options->device, "cpu | cuda (default: runtime.device, auto: cpu)")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  verb->add_option("--ranks", options->ranks, "number of ranks (default: 1)")
      ->check(CLI::Range(1, 1 << 20));
  verb->callback([=, &context] { run_plan(*options, context); });
}

}  // namespace trainer
