#include "trainer/data/coco_sax.h"

#include <fmt/format.h>
#include <rapidjson/error/en.h>
#include <rapidjson/filereadstream.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "comm/error.h"
#include "trainer/data/anomalies.h"
#include "trainer/data/json_scalar.h"

namespace trainer {
namespace {

using comm::ExitCode;
using comm::fail;

std::string_view list_name(CocoList list) {
  return list == CocoList::kImages        ? "images"
         : list == CocoList::kAnnotations ? "annotations"
                                          : "categories";
}

std::optional<CocoList> list_of(std::string_view key) {
  for (const CocoList list : {CocoList::kImages, CocoList::kAnnotations, CocoList::kCategories}) {
    if (key == list_name(list)) return list;
  }
  return std::nullopt;
}

// Members that are read; all others are skipped whatever they hold.
bool is_member(CocoFileKind kind, CocoList list, std::string_view key) {
  const auto among = [&](std::initializer_list<std::string_view> keys) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  if (kind == CocoFileKind::kResults) {
    return list == CocoList::kAnnotations &&
           among({"image_id", "category_id", "bbox", "score", "segmentation"});
  }
  switch (list) {
    case CocoList::kImages:
      return among({"id", "file_name", "width", "height"});
    case CocoList::kAnnotations:
      return among(
          {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore", "segmentation"});
    case CocoList::kCategories:
      return among({"id", "name"});
  }
  return false;
}

// A pushdown automaton over RapidJSON's events.
class CocoHandler {
 public:
  using Ch = char;

  CocoHandler(const CocoSource& source, const CocoSink& sink) : source_(source), sink_(sink) {}

  const std::set<CocoList>& lists() const { return lists_; }

  bool Null() { return scalar({}); }
  bool Bool(bool value) { return scalar(value); }
  bool Int(int value) { return scalar(std::int64_t{value}); }
  bool Uint(unsigned value) { return scalar(std::int64_t{value}); }
  bool Int64(std::int64_t value) { return scalar(value); }
  bool Uint64(std::uint64_t value) {
    return std::in_range<std::int64_t>(value) ? scalar(static_cast<std::int64_t>(value))
                                              : scalar(static_cast<double>(value));
  }
  bool Double(double value) { return scalar(value); }
  bool RawNumber(const char* text, unsigned length, bool) {
    return scalar(std::string_view(text, length));
  }
  bool String(const char* text, unsigned length, bool) {
    return scalar(std::string_view(text, length));
  }
  bool Key(const char* text, unsigned length, bool);
  bool StartObject() { return open(false); }
  bool StartArray() { return open(true); }
  bool EndObject(unsigned) { return close(); }
  bool EndArray(unsigned) { return close(); }

 private:
  enum class State {
    kFile,
    kTop,
    kList,
    kEntry,
    kBbox,
    kPolygons,
    kPolygon,
    kRle,
    kRleSize,
    kRleCounts,
    kSkip,
  };

  State state() const { return states_.back(); }
  bool scalar(const JsonScalar& value);
  bool open(bool is_array);
  bool close();
  State state_inside(bool is_array);
  State state_of_member(bool is_array);
  State start_list(CocoList list);
  void set_member(const JsonScalar& value);
  void set_size(std::int64_t& side, const JsonScalar& value);
  void set_flag(bool& flag, const JsonScalar& value);
  void set_string(std::string& text, const JsonScalar& value);
  void set_id(std::optional<std::int64_t>& id, const JsonScalar& value);
  void push_bbox(const JsonScalar& value);
  void push_run(std::vector<std::int64_t>& numbers, const JsonScalar& value);
  void finish_entry();
  void finish_rle();

  // The first problem of an entry waits for its end, when the id is known.
  void problem(std::string text) {
    if (problem_.empty()) problem_ = std::move(text);
  }
  void wrong_member(const JsonScalar& value, std::string_view wanted) {
    problem(fmt::format("\"{}\" is {}, not {}", key_, shown(value), wanted));
  }
  [[noreturn]] void fail_file(std::string_view text) const {
    fail(ExitCode::kData, "{}: {}", trainer::quoted(source_.path.string()), text);
  }

  const CocoSource& source_;
  const CocoSink& sink_;
  std::set<CocoList> lists_;
  std::vector<State> states_ = {State::kFile};
  CocoList list_ = CocoList::kAnnotations;
  std::size_t number_ = 0;  // of the entry in its list
  std::string key_;         // of the entry, or of the top object
  std::string rle_key_;
  CocoEntry entry_;
  std::string problem_;
  std::vector<std::int64_t> rle_size_, rle_counts_;
  std::optional<std::string> rle_text_;
  bool rle_has_counts_ = false;
};

bool CocoHandler::Key(const char* text, unsigned length, bool) {
  if (state() == State::kTop || state() == State::kEntry) key_.assign(text, length);
  if (state() == State::kRle) rle_key_.assign(text, length);
  return true;
}

bool CocoHandler::scalar(const JsonScalar& value) {
  switch (state()) {
    case State::kFile:
      fail_file("is " + shown(value) + ", not a COCO file");
    case State::kTop:
      if (list_of(key_)) fail_file("\"" + key_ + "\" is " + shown(value) + ", not a list");
      return true;
    case State::kList:
      fail_entry(source_, list_, number_, {}, "it is " + shown(value) + ", not an object");
    case State::kEntry:
      if (is_member(source_.kind, list_, key_)) set_member(value);
      return true;
    case State::kBbox:
      push_bbox(value);
      return true;
    case State::kPolygons:
      wrong_member(value, "a list of polygons");
      return true;
    case State::kPolygon:
      if (const auto number = as_number(value)) {
        std::get<Polygons>(entry_.segmentation).back().push_back(*number);
      } else {
        problem("a polygon of \"segmentation\" holds " + shown(value) + ", not a number");
      }
      return true;
    case State::kRle:
      if (const auto* text = std::get_if<std::string_view>(&value); text && rle_key_ == "counts") {
        rle_text_ = *text;
      } else if (rle_key_ == "counts" || rle_key_ == "size") {
        problem("\"" + rle_key_ + "\" of \"segmentation\" is " + shown(value));
      }
      return true;
    case State::kRleSize:
      push_run(rle_size_, value);
      return true;
    case State::kRleCounts:
      push_run(rle_counts_, value);
      return true;
    case State::kSkip:
      return true;
  }
  return true;
}

bool CocoHandler::open(bool is_array) {
  states_.push_back(state_inside(is_array));
  return true;
}

CocoHandler::State CocoHandler::state_inside(bool is_array) {
  const char* const kind = is_array ? "a list" : "an object";
  switch (state()) {
    case State::kFile:
      if (!is_array) return State::kTop;
      if (source_.kind == CocoFileKind::kResults) return start_list(CocoList::kAnnotations);
      fail_file(
          "is a list, not an object with images, annotations and categories; a results file?");
    case State::kTop:
      if (const auto list = list_of(key_)) {
        if (!is_array) fail_file("\"" + key_ + "\" is an object, not a list");
        return start_list(*list);
      }
      return State::kSkip;
    case State::kList:
      if (is_array) fail_entry(source_, list_, number_, {}, "it is a list, not an object");
      entry_ = CocoEntry();
      return State::kEntry;
    case State::kEntry:
      return is_member(source_.kind, list_, key_) ? state_of_member(is_array) : State::kSkip;
    case State::kBbox:
      push_bbox({});
      return State::kSkip;
    case State::kPolygons:
      if (is_array) {
        std::get<Polygons>(entry_.segmentation).emplace_back();
        return State::kPolygon;
      }
      problem("\"segmentation\" is a list of objects, not of polygons");
      return State::kSkip;
    case State::kRle:
      if (is_array && rle_key_ == "size") return State::kRleSize;
      if (is_array && rle_key_ == "counts") {
        rle_has_counts_ = true;
        return State::kRleCounts;
      }
      return State::kSkip;
    case State::kPolygon:
    case State::kRleSize:
    case State::kRleCounts:
      problem(fmt::format("\"segmentation\" holds {} in place of a number", kind));
      return State::kSkip;
    case State::kSkip:
      return State::kSkip;
  }
  return State::kSkip;
}

CocoHandler::State CocoHandler::state_of_member(bool is_array) {
  if (key_ == "bbox") {
    entry_.num_bbox_values = 0;
    return is_array ? State::kBbox : State::kSkip;
  }
  if (key_ == "segmentation") {
    if (!source_.segmentations) return State::kSkip;
    if (is_array) {
      entry_.segmentation = Polygons();
      return State::kPolygons;
    }
    rle_size_.clear();
    rle_counts_.clear();
    rle_text_.reset();
    rle_has_counts_ = false;
    return State::kRle;
  }
  problem("\"" + key_ + "\" is " + (is_array ? "a list" : "an object"));
  return State::kSkip;
}

CocoHandler::State CocoHandler::start_list(CocoList list) {
  if (!lists_.insert(list).second) fail_file(fmt::format("has \"{}\" twice", list_name(list)));
  list_ = list;
  number_ = 0;
  return State::kList;
}

bool CocoHandler::close() {
  const State closed = state();
  states_.pop_back();
  if (closed == State::kEntry) finish_entry();
  if (closed == State::kRle) finish_rle();
  if (closed == State::kPolygons && std::get<Polygons>(entry_.segmentation).empty()) {
    entry_.segmentation = std::monostate();
  }
  return true;
}

void CocoHandler::set_member(const JsonScalar& value) {
  if (key_ == "id") return set_id(entry_.id, value);
  if (key_ == "image_id") return set_id(entry_.image_id, value);
  if (key_ == "category_id") return set_id(entry_.category_id, value);
  if (key_ == "width") return set_size(entry_.width, value);
  if (key_ == "height") return set_size(entry_.height, value);
  if (key_ == "iscrowd") return set_flag(entry_.is_crowd, value);
  if (key_ == "ignore") return set_flag(entry_.ignore, value);
  if (key_ == "file_name") return set_string(entry_.file_name, value);
  if (key_ == "name") return set_string(entry_.name, value);
  if (key_ == "bbox") {
    entry_.num_bbox_values = 0;
  } else if (key_ == "score") {
    entry_.score = as_number(value);
    if (!entry_.score || !std::isfinite(*entry_.score)) wrong_member(value, "a finite number");
  } else if (key_ == "area") {
    const bool stated = !std::holds_alternative<std::monostate>(value);
    if (stated && !as_number(value)) wrong_member(value, "a number");
    entry_.area = as_number(value).value_or(CocoAnnotation::kNan);
  } else if (key_ == "segmentation" && source_.segmentations) {
    if (!std::holds_alternative<std::monostate>(value)) wrong_member(value, "polygons or an RLE");
    entry_.segmentation = std::monostate();
  }
}

void CocoHandler::set_id(std::optional<std::int64_t>& id, const JsonScalar& value) {
  id = as_id(value);
  if (!id) wrong_member(value, "a whole number");
}

void CocoHandler::set_size(std::int64_t& side, const JsonScalar& value) {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
  const auto integer = as_integer(value);
  if (!integer || *integer < 0 || *integer > kLargest) {
    wrong_member(value, "a whole number of pixels");
  }
  side = integer.value_or(0);
}

void CocoHandler::set_flag(bool& flag, const JsonScalar& value) {
  if (!as_flag(value)) wrong_member(value, "0 or 1");
  flag = as_flag(value).value_or(false);
}

void CocoHandler::set_string(std::string& text, const JsonScalar& value) {
  const auto* string = std::get_if<std::string_view>(&value);
  if (string == nullptr) return wrong_member(value, "a string");
  text = *string;
}

void CocoHandler::push_bbox(const JsonScalar& value) {
  const std::int64_t i = entry_.num_bbox_values++;
  if (i < std::ssize(entry_.bbox)) {
    entry_.bbox[static_cast<std::size_t>(i)] = as_number(value).value_or(CocoAnnotation::kNan);
  }
}

void CocoHandler::push_run(std::vector<std::int64_t>& numbers, const JsonScalar& value) {
  const auto integer = as_integer(value);
  if (!integer) {
    problem("\"" + rle_key_ + "\" of \"segmentation\" holds " + shown(value) +
            ", not a whole number");
  }
  numbers.push_back(integer.value_or(0));
}

void CocoHandler::finish_entry() {
  if (problem_.empty() && source_.kind == CocoFileKind::kAnnotations) {
    const bool is_annotation = list_ == CocoList::kAnnotations;
    if (!entry_.id) problem("\"id\" is missing");
    if (is_annotation && !entry_.image_id) problem("\"image_id\" is missing");
    if (is_annotation && !entry_.category_id) problem("\"category_id\" is missing");
  }
  if (problem_.empty()) {
    sink_(list_, number_, std::move(entry_));
  } else if (source_.problems && list_ == CocoList::kAnnotations) {
    source_.problems->push_back({entry_name(source_.kind, list_, number_, entry_.id), problem_});
    problem_.clear();
  } else {
    fail_entry(source_, list_, number_, entry_.id, problem_);
  }
  ++number_;
}

void CocoHandler::finish_rle() {
  if (rle_size_.size() != 2) return problem("\"size\" of \"segmentation\" is not [height, width]");
  if (!rle_text_ && !rle_has_counts_) return problem("\"segmentation\" has no \"counts\"");
  if (rle_text_) {
    entry_.segmentation = CompressedRle{rle_size_[0], rle_size_[1], *std::move(rle_text_)};
  } else {
    entry_.segmentation = UncompressedRle{rle_size_[0], rle_size_[1], rle_counts_};
  }
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

File open_file(const std::filesystem::path& path) {
  File file(std::fopen(path.c_str(), "rb"));
  if (!file || std::filesystem::is_directory(path)) {
    fail(ExitCode::kInputMissing, "{}: can't be opened: {}", trainer::quoted(path.string()),
         file ? "is a directory" : std::strerror(errno));
  }
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  char head[kByteOrderMark.size()];
  const std::size_t num_read = std::fread(head, 1, sizeof head, file.get());
  if (std::string_view(head, num_read) != kByteOrderMark) std::rewind(file.get());
  return file;
}

}  // namespace

std::string entry_name(CocoFileKind kind, CocoList list, std::size_t number,
                       const std::optional<std::int64_t>& id) {
  const std::string_view name = kind == CocoFileKind::kResults   ? "detection"
                                : list == CocoList::kImages      ? "image"
                                : list == CocoList::kAnnotations ? "annotation"
                                                                 : "category";
  return id ? fmt::format("{} {}", name, *id) : fmt::format("{} number {} (from 0)", name, number);
}

void fail_entry(const CocoSource& source, CocoList list, std::size_t number,
                const std::optional<std::int64_t>& id, const std::string& problem) {
  fail(ExitCode::kData, "{}: {}: {}; correct the file", trainer::quoted(source.path.string()),
       entry_name(source.kind, list, number, id), problem);
}

std::set<CocoList> parse_coco_file(const CocoSource& source, const CocoSink& sink) {
  // Iterative: the depth of the file's nesting can't exhaust the stack.
  constexpr unsigned kFlags = rapidjson::kParseFullPrecisionFlag | rapidjson::kParseNanAndInfFlag |
                              rapidjson::kParseIterativeFlag;
  const File file = open_file(source.path);
  std::vector<char> buffer(1 << 16);
  rapidjson::FileReadStream stream(file.get(), buffer.data(), buffer.size());
  CocoHandler handler(source, sink);
  rapidjson::Reader reader;
  const rapidjson::ParseResult result = reader.Parse<kFlags>(stream, handler);
  if (std::ferror(file.get()) != 0) {
    fail(ExitCode::kIo, "{}: can't be read: {}", trainer::quoted(source.path.string()),
         std::strerror(errno));
  }
  if (result.IsError()) {
    fail(ExitCode::kData, "{}: no valid JSON at byte {}: {}", trainer::quoted(source.path.string()),
         result.Offset(), rapidjson::GetParseError_En(result.Code()));
  }
  return handler.lists();
}

}  // namespace trainer
