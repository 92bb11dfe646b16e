#pragma once

#include <rapidjson/stringbuffer.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trainer {

// A line of a trace; events of one track nest or are apart.
enum class TraceTrack : std::uint8_t { kCompute, kData, kCommunication, kUpdate };

// What one rank did when, as complete events ("ph": "X", ts and dur in microseconds) of Chrome's
// trace format (Google, "Trace Event Format"), for chrome://tracing and ui.perfetto.dev.
class StepTrace {
 public:
  // `origin`: seconds of a steady clock that are the zero of the trace.
  StepTrace(int rank, double origin);

  struct Event {
    TraceTrack track = TraceTrack::kCompute;
    std::string_view name;
    double start = 0, end = 0;       // seconds of the same clock
    std::string_view category = "";  // "forward", "backward", ...
    std::string_view detail = "";    // shown when the event is selected
  };
  void add(const Event& event);

  const std::string& events() const { return events_; }  // one a line, after each but the last ","

 private:
  void append(const rapidjson::StringBuffer& event);

  int rank_;
  double origin_;
  std::string events_;
};

// The file of all ranks, each a process of the trace. `ranks`: their events().
std::string trace_json(const std::vector<std::string>& ranks);

}  // namespace trainer
