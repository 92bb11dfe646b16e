#include "trainer/report/run_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <regex>
#include <thread>
#include <vector>

#include "tests/trainer/report/scratch_folder.h"

namespace trainer {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A console whose text can be read.
class Console {
 public:
  Console() : file_(std::tmpfile(), &std::fclose) {}
  std::FILE* get() const { return file_.get(); }
  std::string text() const {
    std::string text(static_cast<std::size_t>(std::ftell(file_.get())), '\0');
    std::rewind(file_.get());
    text.resize(std::fread(text.data(), 1, text.size(), file_.get()));
    return text;
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

TEST(RunLog, WhatIsRecordedIsInTheFileAlone) {
  const ScratchFolder folder;
  const Console console;
  RunLog log({.folder = folder.path(), .console = console.get()});
  log.record(LogLevel::kError, "exit code 79: over");
  EXPECT_EQ(console.text(), "");
  EXPECT_THAT(file_text(folder.path() / "log.txt"), HasSubstr(" error: exit code 79: over\n"));
}

TEST(RunLog, RankZeroWritesConsoleAndFileAlike) {
  const ScratchFolder folder;
  const Console console;
  {
    RunLog log({.folder = folder.path(), .rank = 0, .console = console.get()});
    log.debug("hidden {}", 1);
    log.info("device {}", "cpu");
    log.warning("{} boxes clipped", 3);
    log.error("no {}", "more");
    log.progress("never on a file");
  }
  const std::string text = file_text(folder.path() / "log.txt");
  EXPECT_EQ(text, console.text());
  const std::string time = R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d )";
  EXPECT_TRUE(
      std::regex_match(text, std::regex(time + "device cpu\n" + time +
                                        "warning: 3 boxes clipped\n" + time + "error: no more\n")))
      << text;
}

TEST(RunLog, OtherRanksAreSilentUntilSomethingIsWrong) {
  const ScratchFolder folder;
  const Console console;
  RunLog log({.folder = folder.path(), .rank = 3, .console = console.get()});
  log.info("ordinary");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  log.warning("odd");
  EXPECT_THAT(file_text(folder.path() / "log.rank-3.txt"), HasSubstr(" warning: odd\n"));
  EXPECT_EQ(console.text(), "");
}

TEST(RunLog, WithoutFolderOnlyTheConsole) {
  const Console console;
  RunLog log({.folder = {}, .rank = 0, .console = console.get(), .level = LogLevel::kDebug});
  log.debug("seen");
  EXPECT_THAT(console.text(), HasSubstr(" seen\n"));
  EXPECT_EQ(log.num_lost(), 0);
}

TEST(RunLog, ControlBytesAreEscaped) {
  EXPECT_EQ(escape_control("a\x1b[31m\r\x7f\tb\n"), "a\\x1b[31m\\x0d\\x7f\tb\n");
  EXPECT_EQ(escape_control("\u00e9 \u03bb \u4e2d \U0001F600"), "\u00e9 \u03bb \u4e2d \U0001F600");
  EXPECT_EQ(escape_control("\xc2\x9b"
                           "2J"),
            "\\xc2\\x9b"
            "2J");  // C1
  EXPECT_EQ(escape_control("\xff\xc0\xaf\xed\xa0\x80"), "\\xff\\xc0\\xaf\\xed\\xa0\\x80");
  EXPECT_EQ(escape_control("cut \xe4\xb8"), "cut \\xe4\\xb8");
  EXPECT_EQ(escape_control("\xef\xbf\xbe"), "\\xef\\xbf\\xbe");  // U+FFFE
}

TEST(RunLog, SurvivesAFullDiskAndSaysWhatIsLost) {
  const ScratchFolder folder;
  const Console console;
  RunLog log({.folder = folder.path(), .rank = 0, .console = console.get()});
  log.info("before");
  {
    const FullDisk full(std::filesystem::file_size(folder.path() / "log.txt") + 3);
    log.info("lost one");
    log.info("lost two");
  }
  log.info("after");
  const std::string text = file_text(folder.path() / "log.txt");
  EXPECT_THAT(text, HasSubstr("warning: 2 lines before this one are lost: File too large\n"));
  EXPECT_THAT(text, HasSubstr(" after\n"));
  EXPECT_THAT(text, Not(HasSubstr("lost one")));
  EXPECT_EQ(log.num_lost(), 2);
}

TEST(RunLog, ConsoleWithoutSpaceIsIgnored) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> full(std::fopen("/dev/full", "w"),
                                                             &std::fclose);
  RunLog log({.folder = {}, .rank = 0, .console = full.get()});
  EXPECT_NO_THROW(log.info("lost"));
}

TEST(RunLog, LinesOfThreadsStayWhole) {
  const ScratchFolder folder;
  const Console console;
  RunLog log({.folder = folder.path(), .rank = 0, .console = console.get()});
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&log, t] {
      for (int i = 0; i < 200; ++i) log.info("thread {} line {} end", t, i);
    });
  threads.clear();
  std::istringstream lines(file_text(folder.path() / "log.txt"));
  const std::regex whole(R"(.{19} thread \d line \d+ end)");
  int num_lines = 0;
  for (std::string line; std::getline(lines, line); ++num_lines)
    EXPECT_TRUE(std::regex_match(line, whole)) << line;
  EXPECT_EQ(num_lines, 800);
}

TEST(RunLog, ProgressIsTheLastLineOfATerminal) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(master, 0);
  ASSERT_EQ(::grantpt(master), 0);
  ASSERT_EQ(::unlockpt(master), 0);
  std::FILE* terminal = std::fopen(::ptsname(master), "w");
  if (terminal == nullptr) GTEST_SKIP() << "no pseudo-terminals here";
  {
    RunLog log({.folder = {}, .rank = 0, .console = terminal});
    EXPECT_TRUE(log.on_terminal());
    EXPECT_GT(log.console_columns(), 0);
    log.progress("10%");
    log.info("a line");
    log.progress("20%");
  }
  const std::string clear = "\r\x1b[K";
  std::string text;  // arrives in pieces
  pollfd readable = {master, POLLIN, 0};
  while (!text.ends_with("20%" + clear) && ::poll(&readable, 1, 5000) > 0) {
    char bytes[1000];
    const ssize_t n = ::read(master, bytes, sizeof bytes);
    if (n <= 0) break;
    text.append(bytes, static_cast<std::size_t>(n));
  }
  EXPECT_THAT(text, testing::StartsWith(clear + clear + "10%" + clear + "20"));  // of the date
  EXPECT_THAT(text, HasSubstr(" a line\r\n10%" + clear + clear + "20%"));
  EXPECT_THAT(text, testing::EndsWith("20%" + clear)) << "the bar is left on the terminal";
  std::fclose(terminal);
  ::close(master);
}

}  // namespace
}  // namespace trainer
