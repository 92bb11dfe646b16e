#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comm/error.h"

namespace trainer {

// What can be odd about a data set. The first group is always repaired and counted; the second is
// governed by data.on_error.
enum class AnomalyKind : std::uint8_t {
  kBoxClipped,      // a box beyond the image: clipped
  kBoxWithoutArea,  // a box without area, or outside of the image: not trained on
  kCrowd,           // a crowd region: not trained on
  kUnusedLabel,     // a label image without an image: not read
  kMissingFile,     // exit 66
  kUndecodable,     // exit 65, as all below
  kSizeMismatch,    // the file's size is not the annotated one
  kMalformed,       // not four numbers, NaN, a negative width or height, a broken mask, no id
  kUnknownId,       // a category, class name or image that is not defined
  kDuplicateId,     // an id or name that was defined before
  kRefusedName,     // a file name that is absolute or leaves its folder
  kLabelValue,      // a label image with values outside of the classes
};
inline constexpr int kNumAnomalyKinds = 12;

// "box without area", and what is done about it, for reports.
std::string_view anomaly_name(AnomalyKind kind);
std::string_view anomaly_remedy(AnomalyKind kind);
bool governed_by_on_error(AnomalyKind kind);
comm::ExitCode anomaly_exit_code(AnomalyKind kind);

struct Anomaly {
  AnomalyKind kind;
  std::string where;   // the image, or the entry of the annotation file; printable
  std::string detail;  // "box [1, 2, nan, 4]"; printable
};

// What happened, in the order it was met. Every event is counted, the first kMaxNamed of each kind
// are named.
class AnomalyReport {
 public:
  static constexpr std::int64_t kMaxNamed = 20;

  void add(AnomalyKind kind, std::string_view where, std::string_view detail);
  void merge(const AnomalyReport& other);

  std::int64_t count(AnomalyKind kind) const { return counts_[static_cast<std::size_t>(kind)]; }
  // Those that on_error governs.
  std::int64_t num_errors() const;
  bool empty() const;
  const std::vector<Anomaly>& named() const { return named_; }

  // on_error stop: throws if there is any governed anomaly; on_error skip: if more than
  // `skip_limit`. `source` is the file or folder the report is about. Errors: 66 if the first one
  // is a missing file, else 65; names the first and counts the others.
  void enforce(bool skip, std::int64_t skip_limit, std::string_view source) const;

 private:
  std::array<std::int64_t, kNumAnomalyKinds> counts_ = {};
  std::vector<Anomaly> named_;
};

// A string from a file, in quotes, with control bytes and invalid UTF-8 escaped, cut to 200 bytes.
std::string quoted(std::string_view text);

// An anomaly found while a sample is read; Loader and `data --check` apply on_error to it.
class SampleError : public comm::Error {
 public:
  SampleError(AnomalyKind kind, const std::string& message)
      : Error(anomaly_exit_code(kind), message), kind_(kind) {}
  AnomalyKind kind() const { return kind_; }

 private:
  AnomalyKind kind_;
};

}  // namespace trainer
