#include "trainer/commands/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdio>

#include "comm/version.h"
#include "trainer/agree.h"
#include "trainer/commands/verbs.h"
#include "trainer/config/suggest.h"

namespace trainer {
namespace {

// "unknown option --resum; did you mean --resume?"
[[noreturn]] void unknown(const std::string& what, const std::string& word,
                          const std::vector<std::string>& known) {
  const std::string near = did_you_mean(word, known);
  throw AgreedError(  // every rank has the same words
      comm::ExitCode::kUsage, fmt::format("{} {}{}; `ridgeline --help` lists them", what, word,
                                          near.empty() ? "" : "; did you mean " + near + "?"));
}

std::vector<std::string> verb_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands(nullptr)) names.push_back(verb->get_name());
  return names;
}

const CLI::App* find_verb(const CLI::App& app, const std::string& name) {
  for (const CLI::App* verb : app.get_subcommands(nullptr)) {
    if (verb->get_name() == name) return verb;
  }
  return nullptr;
}

std::vector<std::string> option_names(const CLI::App& verb) {
  std::vector<std::string> names;
  for (const CLI::Option* option : verb.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

// Not a value: "-" is a file, and -0.5 a number.
bool is_option(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && word != "--" &&
         !std::isdigit(static_cast<unsigned char>(word[1])) && word[1] != '.';
}

// A word that is no verb, or an option that the verb does not have, gets the nearest right one.
// REQUIRES: argc >= 2.
void check_words(const CLI::App& app, int argc, const char* const* argv) {
  const std::string verb = argv[1];
  if (verb.starts_with("-")) {
    const std::vector<std::string> known = {"--help", "-h", "--version"};
    if (std::find(known.begin(), known.end(), verb) != known.end()) return;
    unknown("unknown option", verb, known);
  }
  const CLI::App* chosen = find_verb(app, verb);
  if (!chosen) unknown("unknown command", verb, verb_names(app));
  const bool has_nested = !chosen->get_subcommands(nullptr).empty();
  if (has_nested && argc > 2 && argv[2][0] != '-') {
    chosen = find_verb(*chosen, argv[2]);
    if (!chosen) unknown("unknown command " + verb, argv[2], verb_names(*find_verb(app, verb)));
  }
  const std::vector<std::string> known = option_names(*chosen);
  for (int i = 2; i < argc; ++i) {
    std::string word = argv[i];
    if (!is_option(word)) continue;
    word = word.substr(0, word.find('='));
    if (std::find(known.begin(), known.end(), word) == known.end()) {
      unknown("unknown option", word, known);
    }
  }
}

}  // namespace

LoadedConfig load_agreed_config(const ConfigArguments& arguments,
                                comm::Communicator& communicator) {
  LoadedConfig config;
  agree(communicator, [&] { config = load_config(arguments.path, arguments.overrides); });
  // A rank that read another file, or is another build, would compute something else.
  std::string mine = std::string(comm::kVersion) + " " + comm::kGitCommit + "\n";
  for (const KeyValue& key : key_values(config.config)) mine += key.key + "=" + key.value + "\n";
  const std::vector<std::string> all = communicator.all_gather(mine);
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (all[r] == all[0]) continue;
    std::size_t at = 0, line = 0;
    while (at < std::min(all[0].size(), all[r].size()) && all[0][at] == all[r][at]) {
      if (all[0][at] == '\n') line = at + 1;
      ++at;
    }
    const auto field = [&](const std::string& text) {
      return text.substr(line, text.find('\n', line) - line);
    };
    throw AgreedError(
        comm::ExitCode::kConfig,
        fmt::format("ranks differ: rank 0 has '{}', rank {} on {} has '{}'; give all "
                    "the same build and configuration",
                    field(all[0]), r, communicator.host(static_cast<int>(r)), field(all[r])));
  }
  return config;
}

int run_command_line(int argc, const char* const* argv, const CommandContext& context) {
  CLI::App app(
      "Trains dense vision models on many machines.\n"
      "Example: mpirun -np 2 ridgeline train configs/retinanet_r18_fpn_shapes.yaml");
  app.name("ridgeline");
  app.set_version_flag("--version", std::string(comm::kVersion));
  app.require_subcommand(1);
  int exit_code = 0;
  add_verbs(app, context, exit_code);
  if (argc < 2) {
    if (context.is_root()) std::fputs(app.help().c_str(), stdout);
    return static_cast<int>(comm::ExitCode::kUsage);
  }
  check_words(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const CLI::App* shown = &app;
    while (!shown->get_subcommands().empty()) shown = shown->get_subcommands().front();
    if (context.is_root()) std::fputs(shown->help().c_str(), stdout);
  } catch (const CLI::CallForVersion&) {
    if (context.is_root()) std::printf("ridgeline %s %s\n", comm::kVersion, comm::kGitCommit);
  } catch (const CLI::ParseError& e) {
    throw AgreedError(comm::ExitCode::kUsage,
                      std::string(e.what()) + "; `ridgeline --help` shows how");
  }
  return exit_code;
}

}  // namespace trainer
