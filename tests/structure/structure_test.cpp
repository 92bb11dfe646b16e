#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "tests/structure/structure_fixture.h"

// The tree keeps its rules, and each rule can fail.
namespace structure {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

const fs::path kRoot = RIDGELINE_SOURCE_DIR;

void expect_none(const Violations& found) {
  for (const std::string& line : found) ADD_FAILURE() << line;
}

TEST(Repository, HoldsNothingBesideThePlan) { expect_none(top_level_entries(kRoot)); }
TEST(Repository, IncludesPointOneWay) { expect_none(includes(kRoot)); }
TEST(Repository, PiecesAreSmall) { expect_none(sizes(kRoot)); }
TEST(Repository, TextIsFinishedAndFreeOfBackendConditions) { expect_none(text(kRoot)); }
TEST(Repository, ScriptsAreExecutableAndStrict) { expect_none(scripts(kRoot)); }

// A tree of its own, to break rules in.
class Rule : public testing::Test {
 protected:
  Rule() { fs::create_directories(root_); }
  ~Rule() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& content) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << content;
  }
  static std::string lines(std::size_t count) { return std::string(count, '\n'); }

  const fs::path root_ =
      fs::temp_directory_path() / ("ridgeline-structure-" + std::to_string(getpid()));
};

TEST_F(Rule, TopLevelEntries) {
  write("comm/a.h", "");
  write("build-asan/x", "");
  write("runs/x", "");
  EXPECT_THAT(top_level_entries(root_), IsEmpty());
  write("notes.txt", "");
  EXPECT_THAT(top_level_entries(root_), ElementsAre("notes.txt: not in the plan"));
}

TEST_F(Rule, IncludesPointOneWay) {
  write("models/graph/a.h", "#include \"comm/b.h\"\n#include <vector>\n");
  write("trainer/main.cpp", "#include \"trainer/commands/cli.h\"\n");
  EXPECT_THAT(includes(root_), IsEmpty());
  write("comm/a.h", "#include \"models/graph/b.h\"\n");
  write("models/graph/b.h", "\n#include \"models/ops/b.h\"\n");
  write("models/c.h", "#include \"comm/stream.h\"\n");
  write("models/d.h", "#include \"tests/comm/x.h\"\n");
  write("trainer/data/a.h", "#include \"models/model.h\"\n");
  write("trainer/trainer.cpp", "#include \"trainer/commands/cli.h\"\n");
  EXPECT_THAT(includes(root_),
              ElementsAre("comm/a.h:1: comm includes models/graph",
                          "models/c.h:1: models includes comm", "models/d.h:1: includes a test",
                          "models/graph/b.h:2: models/graph includes models/ops",
                          "trainer/data/a.h:1: trainer/data includes models",
                          "trainer/trainer.cpp:1: trainer includes trainer/commands"));
}

TEST_F(Rule, LibrariesStayInTheirFolder) {
  for (const char* folder : {"comm", "trainer/config", "trainer/checkpoint", "trainer/data"}) {
    write(std::string(folder) + "/a.cpp",
          "#include <mpi.h>\n#include <yaml-cpp/yaml.h>\n#include <hdf5.h>\n");
  }
  write("trainer/eval/a.cpp", "#include <fmt/format.h>\n#include <vector>\n");
  EXPECT_THAT(
      includes(root_),
      ElementsAre(
          "comm/a.cpp:2: comm includes <yaml-cpp/yaml.h>", "comm/a.cpp:3: comm includes <hdf5.h>",
          "trainer/checkpoint/a.cpp:1: trainer/checkpoint includes <mpi.h>",
          "trainer/checkpoint/a.cpp:2: trainer/checkpoint includes <yaml-cpp/yaml.h>",
          "trainer/config/a.cpp:1: trainer/config includes <mpi.h>",
          "trainer/config/a.cpp:3: trainer/config includes <hdf5.h>",
          "trainer/data/a.cpp:1: trainer/data includes <mpi.h>",
          "trainer/data/a.cpp:2: trainer/data includes <yaml-cpp/yaml.h>",
          "trainer/data/a.cpp:3: trainer/data includes <hdf5.h>",
          "trainer/eval/a.cpp:1: trainer/eval includes <fmt/format.h>, not the standard's"));
}

TEST_F(Rule, FilesAndLinesAreShort) {
  for (const char* name : {"a", "b", "c"}) write(std::string("tests/short/") + name + ".cpp", "");
  write("comm/a.cpp", lines(500));
  write("comm/b.cpp", std::string(100, 'x') + "\n");
  write("comm/c.cpp", "// " + std::string(90, 'x') + "\xC3\xA4\xC3\xA4\xC3\xA4\n");
  write("tests/a.cpp", lines(600));
  EXPECT_THAT(sizes(root_), IsEmpty());
  write("comm/a.cpp", lines(501));
  write("comm/b.cpp", "\n" + std::string(101, 'x') + "\n");
  write("tests/a.cpp", lines(601));
  write("launch/run", std::string(102, 'x') + "\n");
  EXPECT_THAT(sizes(root_),
              ElementsAre("comm/a.cpp:1: 501 lines in a file", "tests/a.cpp:1: 601 lines in a file",
                          "comm/b.cpp:2: 101 columns", "launch/run:1: 102 columns"));
}

TEST_F(Rule, FunctionsAreShort) {
  write("tests/a.cpp", "int f() {\n" + lines(58) + "}\n");
  EXPECT_THAT(sizes(root_), IsEmpty());
  write("tests/a.cpp", "\nint f() {\n" + lines(59) + "}\n");
  EXPECT_THAT(sizes(root_), ElementsAre("tests/a.cpp:2: 61 lines in a function"));
}

TEST_F(Rule, TheMedianFileIsShort) {
  write("tests/a.cpp", lines(121));
  write("tests/b.cpp", lines(121));
  write("tests/c.cpp", lines(10));
  EXPECT_THAT(sizes(root_), ElementsAre("the median file has 121 lines"));
}

TEST_F(Rule, TestsAreHalfOfTheSources) {
  write("comm/a.cpp", lines(100));
  write("tests/a.cpp", lines(49));
  EXPECT_THAT(sizes(root_), ElementsAre("49 lines of tests for 100 of source"));
}

TEST_F(Rule, TextIsFinished) {
  write("README.md", "TODOS\nmastodon\n");
  EXPECT_THAT(text(root_), IsEmpty());
  write("README.md",
        "first\nsecond TO"
        "DO: third\n");
  EXPECT_THAT(text(root_), ElementsAre("README.md:2: unfinished: TO"
                                       "DO"));
}

TEST_F(Rule, SourcesAreFreeOfBackendConditions) {
  write("comm/a.h", "#pragma once\n");
  write("comm/build.h.in", "#ifdef __CUDACC__\n#endif\n");
  EXPECT_THAT(text(root_), IsEmpty());
  write("comm/a.h", "#pragma once\n#ifdef __CUDACC__\n#endif\n");
  write("comm/b.h", "# elif  RIDGELINE_NCCL\n#ifdef __SANITIZE_ADDRESS__\n");
  EXPECT_THAT(text(root_), ElementsAre("comm/a.h:2: a backend condition outside comm/build.h.in",
                                       "comm/b.h:1: no #pragma once",
                                       "comm/b.h:1: a backend condition outside comm/build.h.in"));
}

TEST_F(Rule, OnlyCommandsExit) {
  write("trainer/commands/a.cpp", "std::exit(1);\n");
  write("models/a.cpp", "// an exit; world.abort(code)\n");
  EXPECT_THAT(text(root_), IsEmpty());
  write("models/a.cpp", "  std::exit(1);\n  ::_exit(1);\n  f(MPI_COMM_WORLD);\n");
  EXPECT_THAT(text(root_), ElementsAre("models/a.cpp:1: exit outside trainer/commands",
                                       "models/a.cpp:2: _exit outside trainer/commands",
                                       "models/a.cpp:3: MPI_COMM_WORLD outside trainer/commands"));
}

TEST_F(Rule, ScriptsAreExecutableAndStrict) {
  write("launch/run", "#!/usr/bin/env bash\nset -euo pipefail\n");
  fs::permissions(root_ / "launch/run", fs::perms::owner_all);
  write("launch/common.sh", "# read by others\n");
  EXPECT_THAT(scripts(root_), IsEmpty());
  write("launch/build", "#!/usr/bin/env bash\n");
  EXPECT_THAT(scripts(root_), ElementsAre("launch/build:1: a script that is not executable",
                                          "launch/build:1: no set -euo pipefail"));
}

}  // namespace
}  // namespace structure
