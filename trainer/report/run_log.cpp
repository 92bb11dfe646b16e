#include "trainer/report/run_log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <iterator>
#include <utility>

namespace trainer {

namespace {

constexpr int kDefaultColumns = 80;
constexpr std::string_view kClearLine = "\r\x1b[K";

std::filesystem::path log_path(const RunLogOptions& options) {
  if (options.folder.empty()) return {};
  return options.folder / (options.rank == 0 ? std::string("log.txt")
                                             : fmt::format("log.rank-{}.txt", options.rank));
}

std::string timestamp() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm local{};
  ::localtime_r(&now, &local);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local));
}

void put(std::FILE* file, std::string_view text) { std::fwrite(text.data(), 1, text.size(), file); }

std::string_view prefix(LogLevel level) {
  switch (level) {
    case LogLevel::kWarning:
      return "warning: ";
    case LogLevel::kError:
      return "error: ";
    default:
      return "";
  }
}

// Bytes of the UTF-8 sequence at the start of `text` (RFC 3629: no overlong forms, no surrogates,
// nothing above U+10FFFF); 0: none.
std::size_t sequence_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const std::size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (length > text.size()) return 0;
  const unsigned second_low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned second_high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < second_low || byte(1) > second_high) return 0;
  for (std::size_t i = 2; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  return length;
}

// C0 and DEL; C1 (U+0080 to U+009F), which some terminals obey; U+FFFE and U+FFFF, which XML
// forbids.
bool is_control(std::string_view sequence) {
  const auto lead = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() == 1) return (lead < 0x20 && lead != '\n' && lead != '\t') || lead == 0x7f;
  if (sequence.size() == 2) return lead == 0xc2 && static_cast<unsigned char>(sequence[1]) < 0xa0;
  return sequence == "\xef\xbf\xbe" || sequence == "\xef\xbf\xbf";
}

// Whether somebody sees `console`. Open MPI gives each rank a pseudo-terminal whatever mpirun
// itself writes to, so there it is the output of the process that started the rank that counts.
bool is_watched(std::FILE* console) {
  if (::isatty(::fileno(console)) != 1) return false;
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr) return true;
  std::error_code unreadable;
  const std::string output =
      std::filesystem::read_symlink(fmt::format("/proc/{}/fd/1", ::getppid()), unreadable).string();
  return output.starts_with("/dev/pts/") || output.starts_with("/dev/tty");
}

}  // namespace

std::string escape_control(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    const std::string_view sequence = text.substr(0, length == 0 ? 1 : length);
    if (length == 0 || is_control(sequence))
      for (const char c : sequence)
        fmt::format_to(std::back_inserter(escaped), "\\x{:02x}", static_cast<unsigned char>(c));
    else
      escaped += sequence;
    text.remove_prefix(sequence.size());
  }
  return escaped;
}

RunLog::RunLog(const RunLogOptions& options)
    : options_(options),
      on_terminal_(options.rank == 0 && is_watched(options.console)),
      file_(log_path(options)) {}

RunLog::~RunLog() { progress(""); }

int RunLog::console_columns() const {
  winsize size{};
  if (!on_terminal_ || ::ioctl(::fileno(options_.console), TIOCGWINSZ, &size) != 0 ||
      size.ws_col == 0)
    return kDefaultColumns;
  return size.ws_col;
}

std::int64_t RunLog::num_lost() const {
  const std::lock_guard lock(mutex_);
  return file_.num_lost();
}

void RunLog::formatted(LogLevel level, fmt::string_view format, fmt::format_args args) noexcept {
  try {
    write(level, fmt::vformat(format, args));
  } catch (...) {  // out of memory: a log line is not worth the run
  }
}

void RunLog::write(LogLevel level, std::string_view text) noexcept { put_line(level, text, true); }

void RunLog::record(LogLevel level, std::string_view text) noexcept {
  put_line(level, text, false);
}

void RunLog::put_line(LogLevel level, std::string_view text, bool on_console) noexcept {
  if (level < options_.level || (options_.rank != 0 && level < LogLevel::kWarning)) return;
  try {
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    const std::string line =
        fmt::format("{} {}{}\n", timestamp(), prefix(level), escape_control(text));
    const std::lock_guard lock(mutex_);
    if (on_console && options_.rank == 0) to_console(line);
    if (!options_.folder.empty()) to_file(line);
  } catch (...) {  // out of memory: a log line is not worth the run
  }
}

void RunLog::to_console(std::string_view line) noexcept {
  if (!progress_.empty()) put(options_.console, kClearLine);
  put(options_.console, line);
  put(options_.console, progress_);
  std::fflush(options_.console);
}

void RunLog::to_file(std::string_view line) noexcept {
  if (file_.num_lost() > num_lost_said_) {
    const std::int64_t num_lost = file_.num_lost();
    const std::string note = fmt::format("{} warning: {} lines before this one are lost: {}\n",
                                         timestamp(), num_lost - num_lost_said_, file_.error());
    // One more lost record if this fails: the line itself is then not tried.
    if (!file_.append(note)) return;
    num_lost_said_ = num_lost;
  }
  file_.append(line);
}

void RunLog::progress(std::string_view text) noexcept {
  if (!on_terminal_) return;
  try {
    std::string next = escape_control(text);
    const std::lock_guard lock(mutex_);
    if (progress_.empty() && next.empty()) return;
    put(options_.console, kClearLine);
    progress_ = std::move(next);
    to_console("");
  } catch (...) {  // out of memory: a log line is not worth the run
  }
}

}  // namespace trainer
