#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "trainer/report/append_file.h"
#include "trainer/report/step_report.h"

namespace trainer {

// TensorBoard's event file: TFRecords of tensorflow.Event messages
// (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto).
//   record: u64 length | u32 masked crc32c(length) | bytes | u32 masked crc32c(bytes), little
//   endian
// Each call returns false if its events are lost; the file stays readable.
class EventsFile {
 public:
  // Makes folder/events.out.tfevents.TIME.HOST.PID at the first event. A continued run makes a new
  // file; TensorBoard then drops what older files hold from `first_step` on.
  EventsFile(const std::filesystem::path& folder, std::int64_t first_step);

  bool scalar(std::string_view tag, std::int64_t step, double value);
  // One event; names are tags. Undefined values are left out.
  bool scalars(std::int64_t step, std::span<const NamedValue> values);
  // loss and its parts under "train/", speed and memory under "run/", `extra` by its own names.
  bool training(const StepReport& report);
  // `png`: the bytes of an encoded picture of width x height pixels.
  bool image(std::string_view tag, std::int64_t step, int width, int height,
             std::span<const std::uint8_t> png);

  const AppendFile& file() const { return file_; }

 private:
  bool start();
  bool write_event(std::int64_t step, std::string_view summary);

  AppendFile file_;
  std::int64_t first_step_;
  bool started_ = false;
};

// CRC-32C (Castagnoli, RFC 3720 appendix B.4), and TFRecord's mask of it.
std::uint32_t crc32c(std::string_view bytes);
std::uint32_t masked_crc32c(std::string_view bytes);

}  // namespace trainer
