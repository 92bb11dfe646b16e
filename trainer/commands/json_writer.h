#pragma once

#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "trainer/report/run_log.h"

namespace trainer {

// The one JSON object that a command prints with --json. Numbers that are not finite, and optional
// ones without a value, become null. Texts are UTF-8: bytes that are not become "\xff".
class JsonWriter {
 public:
  JsonWriter() : writer_(buffer_) {
    writer_.SetIndent(' ', 2);
    writer_.StartObject();
  }

  void begin_object() { writer_.StartObject(); }
  void begin_object(std::string_view name) {
    key(name);
    writer_.StartObject();
  }
  void end_object() { writer_.EndObject(); }
  void begin_array(std::string_view name) {
    key(name);
    writer_.StartArray();
  }
  void end_array() { writer_.EndArray(); }

  void value(std::int64_t number) { writer_.Int64(number); }
  void value(double number) {
    if (std::isfinite(number)) {
      writer_.Double(number);
    } else {
      writer_.Null();
    }
  }

  void text(std::string_view name, std::string_view value) {
    key(name);
    const std::string printable = escape_control(value);
    writer_.String(printable.data(), static_cast<unsigned>(printable.size()));
  }
  void integer(std::string_view name, std::int64_t number) {
    key(name);
    value(number);
  }
  void number(std::string_view name, std::optional<double> number) {
    key(name);
    value(number.value_or(std::nan("")));
  }
  void boolean(std::string_view name, bool value) {
    key(name);
    writer_.Bool(value);
  }

  // Closes the object. REQUIRES: everything begun was ended.
  std::string finish() {
    writer_.EndObject();
    return std::string(buffer_.GetString(), buffer_.GetSize()) + "\n";
  }

 private:
  void key(std::string_view name) { writer_.Key(name.data(), static_cast<unsigned>(name.size())); }

  rapidjson::StringBuffer buffer_;
  rapidjson::PrettyWriter<rapidjson::StringBuffer> writer_;
};

}  // namespace trainer
