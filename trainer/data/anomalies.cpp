#include "trainer/data/anomalies.h"

#include <algorithm>

namespace trainer {
namespace {

struct KindText {
  std::string_view name, remedy;
};

// In the order of AnomalyKind.
constexpr std::array<KindText, kNumAnomalyKinds> kTexts = {{
    {"box beyond the image", "clipped to the image"},
    {"box without area or outside of the image", "not trained on"},
    {"crowd", "not trained on"},
    {"label image without an image", "not read"},
    {"missing file", "on_error"},
    {"undecodable file", "on_error"},
    {"size mismatch", "on_error"},
    {"malformed annotation", "on_error"},
    {"unknown id", "on_error"},
    {"duplicate id", "on_error"},
    {"refused file name", "on_error"},
    {"label value outside of the classes", "on_error"},
}};

const KindText& text_of(AnomalyKind kind) { return kTexts[static_cast<std::size_t>(kind)]; }

// Bytes of the valid UTF-8 sequence at `text`, 0 if it is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const std::size_t length = lead < 0x80       ? 1
                             : lead >> 5 == 6  ? 2
                             : lead >> 4 == 14 ? 3
                             : lead >> 3 == 30 ? 4
                                               : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if (byte(i) >> 6 != 2) return 0;
  // C1 controls (U+0080 to U+009F) move a terminal's cursor as C0 ones do.
  if (length == 2 && lead == 0xc2 && byte(1) < 0xa0) return 0;
  return length;
}

}  // namespace

std::string_view anomaly_name(AnomalyKind kind) { return text_of(kind).name; }
std::string_view anomaly_remedy(AnomalyKind kind) { return text_of(kind).remedy; }

bool governed_by_on_error(AnomalyKind kind) { return kind >= AnomalyKind::kMissingFile; }

comm::ExitCode anomaly_exit_code(AnomalyKind kind) {
  return kind == AnomalyKind::kMissingFile ? comm::ExitCode::kInputMissing : comm::ExitCode::kData;
}

void AnomalyReport::add(AnomalyKind kind, std::string_view where, std::string_view detail) {
  if (counts_[static_cast<std::size_t>(kind)]++ < kMaxNamed)
    named_.push_back({kind, std::string(where), std::string(detail)});
}

void AnomalyReport::merge(const AnomalyReport& other) {
  std::array<std::int64_t, kNumAnomalyKinds> named = {};
  for (const Anomaly& anomaly : named_) ++named[static_cast<std::size_t>(anomaly.kind)];
  for (const Anomaly& anomaly : other.named_)
    if (named[static_cast<std::size_t>(anomaly.kind)]++ < kMaxNamed) named_.push_back(anomaly);
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

std::int64_t AnomalyReport::num_errors() const {
  std::int64_t sum = 0;
  for (int i = 0; i < kNumAnomalyKinds; ++i)
    if (governed_by_on_error(static_cast<AnomalyKind>(i)))
      sum += counts_[static_cast<std::size_t>(i)];
  return sum;
}

bool AnomalyReport::empty() const {
  return std::ranges::all_of(counts_, [](std::int64_t count) { return count == 0; });
}

void AnomalyReport::enforce(bool skip, std::int64_t skip_limit, std::string_view source) const {
  const std::int64_t errors = num_errors();
  if (errors <= (skip ? skip_limit : 0)) return;
  const auto first = std::ranges::find_if(
      named_, [](const Anomaly& anomaly) { return governed_by_on_error(anomaly.kind); });
  REQUIRE(first != named_.end(), "{} errors, none named", errors);
  const std::string others =
      errors > 1 ? fmt::format(" (and {} more, listed by `ridgeline data`)", errors - 1) : "";
  const std::string what = fmt::format("{}: {}: {}: {}{}", source, first->where,
                                       anomaly_name(first->kind), first->detail, others);
  if (skip)
    comm::fail(anomaly_exit_code(first->kind),
               "{}; {} are more than data.skip_limit {} allows: repair the data, or raise it", what,
               errors, skip_limit);
  comm::fail(anomaly_exit_code(first->kind),
             "{}; repair the data, or set data.on_error=skip to leave it out", what);
}

std::string quoted(std::string_view text) {
  constexpr std::size_t kMaxBytes = 200;
  std::string result = "'";
  std::size_t i = 0;
  while (i < text.size() && i < kMaxBytes) {
    const std::size_t length = utf8_length(text.substr(i));
    const auto byte = static_cast<unsigned char>(text[i]);
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      result += fmt::format("\\x{:02x}", byte);
      ++i;
    } else {
      if (byte == '\\' || byte == '\'') result += '\\';
      result += text.substr(i, length);
      i += length;
    }
  }
  return result + (i < text.size() ? "'..." : "'");
}

}  // namespace trainer
