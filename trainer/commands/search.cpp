// ridgeline search CONFIG --over KEY=LOW..HIGH:log:COUNT
#include "trainer/search/search.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "trainer/agree.h"
#include "trainer/commands/verbs.h"
#include "trainer/report/append_file.h"

namespace trainer {
namespace {

struct SearchArguments {
  ConfigArguments config;
  std::vector<std::string> overs;
  std::string strategy = "grid", out, group;
  int folds = 1, seeds = 1, ranks_per_trial = 1, draws = 0;
};

void check_counts(const SearchArguments& arguments, Strategy strategy) {
  const auto require = [](bool good, const char* what) {
    if (!good) comm::fail(comm::ExitCode::kUsage, "{}; `ridgeline search --help` shows how", what);
  };
  require(arguments.folds >= 1, "--folds must be 1 (validate on data.val) or more");
  require(arguments.seeds >= 1, "--seeds must be 1 or more");
  require(arguments.ranks_per_trial >= 1, "--ranks-per-trial must be 1 or more");
  require(arguments.draws >= 0, "--trials must be 1 or more");
  require(strategy != Strategy::kRandom || arguments.draws > 0,
          "--strategy random needs --trials, the number of candidates to draw");
  require(strategy != Strategy::kGrid || arguments.draws == 0,
          "--trials is for --strategy random and halving; a grid has its COUNT");
  require(arguments.group.empty() || arguments.folds > 1, "--group is for --folds");
}

SearchDefinition definition_of(const SearchArguments& arguments, std::int64_t first_seed) {
  SearchDefinition definition;
  definition.strategy = parse_strategy(arguments.strategy);
  check_counts(arguments, definition.strategy);
  for (const std::string& text : arguments.overs) {
    definition.overs.push_back(parse_over(text));
    for (std::size_t k = 0; k + 1 < definition.overs.size(); ++k) {
      if (definition.overs[k].key == definition.overs.back().key)
        comm::fail(comm::ExitCode::kUsage, "--over {} stands twice; give its values in one",
                   definition.overs.back().key);
    }
  }
  definition.folds = arguments.folds;
  definition.seeds = arguments.seeds;
  definition.first_seed = first_seed;
  definition.num_draws = arguments.draws;
  definition.group = arguments.group;
  return definition;
}

void run_search(const SearchArguments& arguments, const CommandContext& context) {
  const comm::StopSignals& signals = context.signals.emplace();
  SearchOptions options;
  agree(context.communicator, [&] { options.definition = definition_of(arguments, 1); });
  const LoadedConfig base = load_agreed_config(arguments.config, context.communicator);
  options.definition.first_seed = base.config.train.seed;
  options.ranks_per_trial = arguments.ranks_per_trial;
  options.out = arguments.out.empty() ? "runs/" + base.config.name + "-search" : arguments.out;
  options.load = [config = arguments.config](const std::vector<std::string>& overrides) {
    std::vector<std::string> all = config.overrides;
    all.insert(all.end(), overrides.begin(), overrides.end());
    return load_config(config.path, all);
  };
  options.notify = [](const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
  };
  const std::filesystem::path out = options.out;
  Search search(std::move(options), context.communicator, context.progress, signals);
  const SearchResult result = search.run();
  agree(context.communicator, [&] {
    if (!context.is_root()) return;
    write_file(out / "result.json", result_json(result));
    write_file(out / "curve.svg", curve_svg(result));
    std::printf("\n%s\ntrials.csv, result.json and curve.svg are in %s\n",
                result_table(result).c_str(), out.string().c_str());
  });
}

}  // namespace

void add_search(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand(
      "search",
      "find a regularization strength, or any key, by cross-validation as one job;\n"
      "the same --out continues, finished trials are not repeated");
  verb->footer(
      "Example: mpirun -np 8 ridgeline search configs/mlp_mnist.yaml "
      "--over regularization.l2=1e-6..1e-1:log:11 --folds 5 --seeds 3 data.train.limit=2000");
  auto arguments = std::make_shared<SearchArguments>();
  add_config_arguments(*verb, arguments->config);
  verb->add_option("--over", arguments->overs,
                   "KEY=LOW..HIGH:log|linear:COUNT, or KEY=A,B,C; several make a grid")
      ->required()
      ->allow_extra_args(false);
  verb->add_option("--folds", arguments->folds,
                   "cross-validate on the training set; 1: validate on data.val (default: 1)");
  verb->add_option("--seeds", arguments->seeds,
                   "repeat with train.seed, train.seed + 1, ... (default: 1)");
  verb->add_option("--ranks-per-trial", arguments->ranks_per_trial,
                   "ranks that train one trial together (default: 1)");
  verb->add_option("--strategy", arguments->strategy,
                   "grid | random | halving: a third goes on to three times the steps "
                   "(default: grid)");
  verb->add_option("--trials", arguments->draws, "random, halving: candidates to draw");
  verb->add_option("--group", arguments->group,
                   "folds keep samples together whose names have the same first capture of this "
                   "regular expression, such as '^(.*)_'");
  verb->add_option("--out", arguments->out, "folder (default: runs/NAME-search)");
  verb->callback([=, &context] { run_search(*arguments, context); });
}

}  // namespace trainer
