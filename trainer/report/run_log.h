#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>

#include "trainer/report/append_file.h"

namespace trainer {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct RunLogOptions {
  std::filesystem::path folder;  // of the run; empty: no file
  int rank = 0;
  std::FILE* console = stdout;  // stderr where stdout holds a JSON object
  LogLevel level = LogLevel::kInfo;
};

// What a run says. Rank 0 writes to the console and to folder/log.txt. Other ranks are silent on
// the console; their warnings and errors go to folder/log.rank-R.txt, which exists only if there
// are any. Thread-safe. Never throws and never fails a run: a line that cannot be written (disk
// full, console gone) is counted and, once the file takes lines again, its loss is mentioned there.
//
// A line is "2026-01-31 12:00:00 text", with "warning: " or "error: " before the text. Control
// bytes other than newline and tab are escaped as \xNN, since texts may quote names from files.
class RunLog {
 public:
  explicit RunLog(const RunLogOptions& options);
  ~RunLog();

  template <typename... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) noexcept {
    formatted(LogLevel::kDebug, format, fmt::make_format_args(args...));
  }
  template <typename... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) noexcept {
    formatted(LogLevel::kInfo, format, fmt::make_format_args(args...));
  }
  template <typename... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) noexcept {
    formatted(LogLevel::kWarning, format, fmt::make_format_args(args...));
  }
  template <typename... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) noexcept {
    formatted(LogLevel::kError, format, fmt::make_format_args(args...));
  }
  // `text` may have several lines (a table); the time stands before the first.
  void write(LogLevel level, std::string_view text) noexcept;
  // To the file alone: what somebody else says on the console.
  void record(LogLevel level, std::string_view text) noexcept;

  // Shows `text` (no newline) as the console's last line, replaced by the next call and moved down
  // by lines written meanwhile. Only on rank 0 and on a terminal; else nothing. Empty: removes it.
  void progress(std::string_view text) noexcept;

  bool on_terminal() const { return on_terminal_; }
  int console_columns() const;    // width of the terminal, 80 if unknown
  std::int64_t num_lost() const;  // lines that the file did not take

 private:
  void formatted(LogLevel level, fmt::string_view format, fmt::format_args args) noexcept;
  void put_line(LogLevel level, std::string_view text, bool on_console) noexcept;
  void to_console(std::string_view line) noexcept;
  void to_file(std::string_view line) noexcept;

  RunLogOptions options_;
  bool on_terminal_;
  mutable std::mutex mutex_;
  AppendFile file_;
  std::int64_t num_lost_said_ = 0;
  std::string progress_;
};

// `text` with control characters, and bytes that are not UTF-8, as \xNN; newline and tab stay.
std::string escape_control(std::string_view text);

}  // namespace trainer
