#include "tests/structure/structure_fixture.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <string_view>

namespace structure {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFileLines = 500, kMaxTestLines = 600, kMaxMedianLines = 120;
constexpr std::size_t kMaxFunctionLines = 60, kMaxColumns = 100;

struct File {
  std::string path;  // from the root
  std::vector<std::string> lines;

  std::string folder() const { return path.substr(0, std::max<std::size_t>(path.rfind('/'), 0)); }
  std::string extension() const { return fs::path(path).extension(); }
  bool is_test() const { return path.starts_with("tests/"); }
  bool is_header() const { return extension() == ".h" || extension() == ".cuh"; }
  bool is_source() const { return is_header() || extension() == ".cpp" || extension() == ".cu"; }
  std::string at(std::size_t line, std::string_view what) const {
    return path + ":" + std::to_string(line + 1) + ": " + std::string(what);
  }
};

// As .gitignore has it.
bool is_ignored(const std::string& name) {
  return name == ".git" || name == ".cache" || name == "runs" || name == "build" ||
         name.starts_with("build-") || name == "compile_commands.json";
}

std::vector<File> files(const fs::path& root) {
  std::vector<File> all;
  for (auto entry = fs::recursive_directory_iterator(root); entry != fs::end(entry); ++entry) {
    const std::string name = entry->path().filename();
    if (entry.depth() == 0 && is_ignored(name)) {
      entry.disable_recursion_pending();
      continue;
    }
    if (!entry->is_regular_file()) continue;
    File file{fs::relative(entry->path(), root), {}};
    std::ifstream in(entry->path());
    for (std::string line; std::getline(in, line);) file.lines.push_back(line);
    all.push_back(std::move(file));
  }
  std::sort(all.begin(), all.end(), [](const File& a, const File& b) { return a.path < b.path; });
  return all;
}

std::vector<File> sources(const fs::path& root) {
  std::vector<File> all = files(root);
  std::erase_if(all, [](const File& file) { return !file.is_source(); });
  return all;
}

using Folders = std::set<std::string>;

// What each folder may include beside itself.
const std::map<std::string, Folders> kMayInclude = {
    {"comm", {}},
    {"models", {"models/graph", "models/ops"}},
    {"models/graph", {"comm"}},
    {"models/ops", {"comm", "models/graph"}},
    {"trainer/checkpoint", {"comm"}},
    {"trainer/config", {"comm"}},
    {"trainer/data", {"comm", "trainer/config", "trainer/eval"}},
    {"trainer/eval", {}},
    {"trainer/optim", {"comm", "models/graph", "trainer/config"}},
    {"trainer/report", {"comm", "trainer/data", "trainer/eval"}},
    {"trainer/tasks",
     {"comm", "models", "models/graph", "trainer/config", "trainer/data", "trainer/eval",
      "trainer/report"}},
};

// Beginnings of library headers, and the only folders that know them.
const std::vector<std::pair<std::string, Folders>> kOnlyIn = {
    {"CLI/", {"trainer/commands"}},
    {"Random123/", {"comm"}},
    {"cublas", {"models/ops"}},
    {"cuda", {"comm", "models/ops"}},
    {"cudnn", {"models/ops"}},
    {"dnnl", {"models/ops"}},
    {"hdf5", {"trainer/checkpoint"}},
    {"H5", {"trainer/checkpoint"}},
    {"jpeglib.h", {"trainer/data"}},
    {"mpi.h", {"comm"}},
    {"nccl", {"comm"}},
    {"oneapi/dnnl", {"models/ops"}},
    {"png.h", {"trainer/data"}},
    {"pugixml", {"trainer/data"}},
    {"yaml-cpp/", {"trainer/config"}},
    {"zlib.h", {"trainer/data"}},
};

void check_project_include(const File& file, std::size_t line, const std::string& header,
                           Violations& found) {
  const std::string from = file.folder();
  const std::string to = header.substr(0, std::max<std::size_t>(header.rfind('/'), 0));
  if (to == from) return;
  if (to == "tests" || to.starts_with("tests/")) {
    found.push_back(file.at(line, "includes a test"));
    return;
  }
  const auto rule = kMayInclude.find(from);
  const bool allowed = rule != kMayInclude.end() ? rule->second.contains(to)
                       : from == "trainer"
                           ? to != "trainer/commands" || file.path == "trainer/main.cpp"
                           : true;
  if (!allowed) found.push_back(file.at(line, from + " includes " + to));
}

void check_library_include(const File& file, std::size_t line, const std::string& header,
                           Violations& found) {
  const std::string from = file.folder();
  for (const auto& [prefix, folders] : kOnlyIn) {
    if (header.starts_with(prefix) && !folders.contains(from))
      found.push_back(file.at(line, from + " includes <" + header + ">"));
  }
  if (from == "trainer/eval" && header.find_first_of("./") != std::string::npos)
    found.push_back(file.at(line, "trainer/eval includes <" + header + ">, not the standard's"));
}

// Functions of a namespace begin and end in the first column.
void check_functions(const File& file, Violations& found) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const std::string& line = file.lines[i];
    if (line == "}") {
      if (i + 1 - begin > kMaxFunctionLines)
        found.push_back(file.at(begin, std::to_string(i + 1 - begin) + " lines in a function"));
    } else if (!line.empty() && std::string_view(" #/}").find(line[0]) == std::string::npos) {
      begin = i;
    }
  }
}

bool is_word(const std::string& line, std::size_t at, std::size_t length) {
  const auto inside = [&](std::size_t i) {
    return i < line.size() && (std::isalnum(static_cast<unsigned char>(line[i])) || line[i] == '_');
  };
  return !inside(at - 1) && !inside(at + length);
}

bool has_word(const std::string& line, const std::string& word) {
  for (auto at = line.find(word); at != std::string::npos; at = line.find(word, at + 1)) {
    if (is_word(line, at, word.size())) return true;
  }
  return false;
}

// "#if defined(__CUDACC__)" and its kin.
bool asks_for_backend(const std::string& line) {
  const auto at = line.find_first_not_of(" \t");
  if (at == std::string::npos || line[at] != '#') return false;
  const auto word = line.find_first_not_of(" \t", at + 1);
  if (word == std::string::npos) return false;
  if (line.compare(word, 2, "if") != 0 && line.compare(word, 4, "elif") != 0) return false;
  for (const char* backend : {"CUDA", "CUDNN", "NCCL", "DNNL", "MPI", "RIDGELINE"}) {
    if (line.find(backend, word) != std::string::npos) return true;
  }
  return false;
}

// Only the command line ends the process; comm ends it for a lost peer or a second signal, and the
// checkpoint reader ends its own sandboxed child.
bool may_exit(const std::string& path) {
  return path.starts_with("trainer/commands/") || path == "trainer/main.cpp" ||
         path.starts_with("comm/") || path == "trainer/checkpoint/isolated.cpp" ||
         path.starts_with("tests/");
}

void check_source_text(const File& file, Violations& found) {
  const auto is_once = [](const std::string& line) { return line == "#pragma once"; };
  if (file.is_header() && std::none_of(file.lines.begin(), file.lines.end(), is_once))
    found.push_back(file.at(0, "no #pragma once"));
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const std::string& line = file.lines[i];
    if (!file.is_test() && asks_for_backend(line))
      found.push_back(file.at(i, "a backend condition outside comm/build.h.in"));
    if (may_exit(file.path)) continue;
    for (const char* word : {"exit", "_exit", "abort", "quick_exit", "MPI_COMM_WORLD"}) {
      const bool call = has_word(line, word) && !line.starts_with("//") &&
                        (line.find(std::string("std::") + word + "(") != std::string::npos ||
                         line.find(std::string("::") + word + "(") != std::string::npos ||
                         std::string_view(word) == "MPI_COMM_WORLD");
      if (call) found.push_back(file.at(i, std::string(word) + " outside trainer/commands"));
    }
  }
}

}  // namespace

Violations top_level_entries(const fs::path& root) {
  static const std::set<std::string> kAllowed = {
      "comm",          "models",      "trainer",           "configs",
      "launch",        "tests",       "README.md",         "CMakeLists.txt",
      "LICENSE",       ".ci",         "CMakePresets.json", ".gitignore",
      ".clang-format", ".clang-tidy", ".gitattributes"};
  Violations found;
  for (const auto& entry : fs::directory_iterator(root)) {
    const std::string name = entry.path().filename();
    if (!kAllowed.contains(name) && !is_ignored(name)) found.push_back(name + ": not in the plan");
  }
  return found;
}

Violations includes(const fs::path& root) {
  Violations found;
  for (const File& file : sources(root)) {
    if (file.is_test()) continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      const std::string& line = file.lines[i];
      if (!line.starts_with("#include ") || line.size() < 12) continue;
      const std::string header = line.substr(10, line.find_first_of("\">", 10) - 10);
      if (line[9] == '"')
        check_project_include(file, i, header, found);
      else
        check_library_include(file, i, header, found);
    }
  }
  return found;
}

Violations sizes(const fs::path& root) {
  Violations found;
  std::vector<std::size_t> lengths;
  std::size_t source_lines = 0, test_lines = 0;
  for (const File& file : sources(root)) {
    const std::size_t length = file.lines.size();
    const std::size_t limit = file.is_test() ? kMaxTestLines : kMaxFileLines;
    lengths.push_back(length);
    (file.is_test() ? test_lines : source_lines) += length;
    if (length > limit) found.push_back(file.at(0, std::to_string(length) + " lines in a file"));
    check_functions(file, found);
  }
  for (const File& file : files(root)) {
    const bool is_text = file.is_source() || file.path.starts_with("launch/") ||
                         file.path.ends_with(".sh") || file.path.ends_with(".py") ||
                         file.path.ends_with("CMakeLists.txt");
    for (std::size_t i = 0; is_text && i < file.lines.size(); ++i) {
      const std::string& line = file.lines[i];
      const auto columns = std::count_if(line.begin(), line.end(),
                                         [](char c) { return (c & 0xC0) != 0x80; });  // UTF-8
      if (static_cast<std::size_t>(columns) > kMaxColumns)
        found.push_back(file.at(i, std::to_string(columns) + " columns"));
    }
  }
  if (lengths.empty()) return found;
  std::nth_element(lengths.begin(), lengths.begin() + lengths.size() / 2, lengths.end());
  const std::size_t median = lengths[lengths.size() / 2];
  if (median > kMaxMedianLines)
    found.push_back("the median file has " + std::to_string(median) + " lines");
  if (2 * test_lines < source_lines)
    found.push_back(std::to_string(test_lines) + " lines of tests for " +
                    std::to_string(source_lines) + " of source");
  return found;
}

Violations text(const fs::path& root) {
  static const std::string kMarks[] = {
      "TO"
      "DO",
      "FIX"
      "ME",
      "X"
      "XX",
      "HA"
      "CK"};
  Violations found;
  for (const File& file : files(root)) {
    if (file.is_source()) check_source_text(file, found);
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      for (const std::string& mark : kMarks) {
        if (has_word(file.lines[i], mark)) found.push_back(file.at(i, "unfinished: " + mark));
      }
    }
  }
  return found;
}

Violations scripts(const fs::path& root) {
  Violations found;
  for (const File& file : files(root)) {
    if (file.lines.empty() || !file.lines[0].starts_with("#!")) continue;
    const auto permissions = fs::status(root / file.path).permissions();
    if ((permissions & fs::perms::owner_exec) == fs::perms::none)
      found.push_back(file.at(0, "a script that is not executable"));
    const bool strict =
        std::find(file.lines.begin(), file.lines.end(), "set -euo pipefail") != file.lines.end();
    if (!file.is_test() && file.lines[0].ends_with("bash") && !strict)
      found.push_back(file.at(0, "no set -euo pipefail"));
  }
  return found;
}

}  // namespace structure
