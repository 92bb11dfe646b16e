#include "trainer/report/events_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <limits>

namespace trainer {

namespace {

// Field numbers of the messages.
enum EventField { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7 };
enum SummaryField { kValue = 1 };
enum ValueField { kTag = 1, kSimpleValue = 2, kImage = 4 };
enum ImageField { kHeight = 1, kWidth = 2, kColorspace = 3, kEncodedImage = 4 };
enum SessionLogField { kStatus = 1 };

constexpr int kSessionStart = 1;  // SessionLog.START
constexpr int kRgbColorspace = 3;

// Encoder of one protocol buffers message: fields are appended in the order of the calls.
class Message {
 public:
  Message& integer(int field, std::int64_t value) {
    varint(static_cast<std::uint64_t>(field) << 3 | 0);
    varint(static_cast<std::uint64_t>(value));
    return *this;
  }
  Message& float64(int field, double value) {
    varint(static_cast<std::uint64_t>(field) << 3 | 1);
    fixed(std::bit_cast<std::uint64_t>(value));
    return *this;
  }
  Message& bytes(int field, std::string_view value) {
    varint(static_cast<std::uint64_t>(field) << 3 | 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& float32(int field, float value) {
    varint(static_cast<std::uint64_t>(field) << 3 | 5);
    fixed(std::bit_cast<std::uint32_t>(value));
    return *this;
  }
  Message& message(int field, const Message& value) { return bytes(field, value.bytes_); }

  template <typename Unsigned>
  Message& fixed(Unsigned value) {
    for (std::size_t i = 0; i < sizeof value; ++i)
      bytes_ += static_cast<char>(value >> (8 * i) & 0xff);
    return *this;
  }
  Message& raw(std::string_view value) {
    bytes_ += value;
    return *this;
  }
  const std::string& str() const { return bytes_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

double now_seconds() {
  using Seconds = std::chrono::duration<double>;
  return Seconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::filesystem::path events_path(const std::filesystem::path& folder) {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return folder / fmt::format("events.out.tfevents.{:010}.{}.{}",
                              static_cast<std::int64_t>(now_seconds()),
                              host[0] == '\0' ? "localhost" : host.data(), ::getpid());
}

std::string record(std::string_view bytes) {
  const std::string length = Message().fixed(static_cast<std::uint64_t>(bytes.size())).str();
  return Message()
      .raw(length)
      .fixed(masked_crc32c(length))
      .raw(bytes)
      .fixed(masked_crc32c(bytes))
      .str();
}

Message event(std::int64_t step) {
  return Message().float64(kWallTime, now_seconds()).integer(kStep, step);
}

void add_scalar(Message& summary, std::string_view tag, double value) {
  if (!std::isfinite(value)) return;
  summary.message(kValue,
                  Message().bytes(kTag, tag).float32(kSimpleValue, static_cast<float>(value)));
}

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  constexpr std::uint32_t kReversedPolynomial = 0x82f63b78;
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    table[i] = i;
    for (int bit = 0; bit < 8; ++bit)
      table[i] = table[i] >> 1 ^ (table[i] & 1 ? kReversedPolynomial : 0);
  }
  return table;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = make_crc_table();
  std::uint32_t crc = ~std::uint32_t{0};
  for (const char c : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

std::uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8;
}

EventsFile::EventsFile(const std::filesystem::path& folder, std::int64_t first_step)
    : file_(events_path(folder)), first_step_(first_step) {}

bool EventsFile::start() {
  if (started_) return true;
  const Message version =
      Message().float64(kWallTime, now_seconds()).bytes(kFileVersion, "brain.Event:2");
  const Message session =
      event(first_step_).message(kSessionLog, Message().integer(kStatus, kSessionStart));
  return started_ = file_.append(record(version.str()) + record(session.str()));
}

bool EventsFile::write_event(std::int64_t step, std::string_view summary) {
  if (!start()) return false;
  return summary.empty() || file_.append(record(event(step).bytes(kSummary, summary).str()));
}

bool EventsFile::scalar(std::string_view tag, std::int64_t step, double value) {
  Message summary;
  add_scalar(summary, tag, value);
  return write_event(step, summary.str());
}

bool EventsFile::scalars(std::int64_t step, std::span<const NamedValue> values) {
  Message summary;
  for (const NamedValue& value : values) add_scalar(summary, value.name, value.value);
  return write_event(step, summary.str());
}

bool EventsFile::training(const StepReport& report) {
  Message summary;
  add_scalar(summary, "train/loss", report.loss);
  for (const NamedValue& loss : report.losses)
    add_scalar(summary, "train/" + loss.name, loss.value);
  add_scalar(summary, "train/lr", report.lr);
  add_scalar(summary, "train/l2_penalty", report.l2_penalty);
  add_scalar(summary, "train/grad_norm", report.grad_norm);
  add_scalar(summary, "train/epoch", report.epoch);
  add_scalar(summary, "run/images_per_second", report.images_per_second);
  add_scalar(summary, "run/data_seconds", report.seconds.data);
  add_scalar(summary, "run/step_seconds", report.seconds.total);
  add_scalar(summary, "run/memory_bytes", static_cast<double>(report.memory_bytes));
  for (const NamedValue& value : report.extra) add_scalar(summary, value.name, value.value);
  return write_event(report.step, summary.str());
}

bool EventsFile::image(std::string_view tag, std::int64_t step, int width, int height,
                       std::span<const std::uint8_t> png) {
  const std::string_view bytes(reinterpret_cast<const char*>(png.data()), png.size());
  const Message picture = Message()
                              .integer(kHeight, height)
                              .integer(kWidth, width)
                              .integer(kColorspace, kRgbColorspace)
                              .bytes(kEncodedImage, bytes);
  const Message value = Message().bytes(kTag, tag).message(kImage, picture);
  return write_event(step, Message().message(kValue, value).str());
}

}  // namespace trainer
