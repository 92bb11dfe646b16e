// The trace file of `bench --trace`: it parses, and what it says of a step adds up.
#include "trainer/commands/step_trace.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>

#include "comm/communicator_local.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/commands/bench.h"

namespace trainer {
namespace {

using testing::Contains;
using testing::HasSubstr;

constexpr double kRounding = 2e-3;  // of times in the file, microseconds

struct Read {
  std::string name, category;
  int rank = 0, track = 0;
  double start = 0, length = 0;
  double end() const { return start + length; }
};

struct Trace {
  std::vector<Read> events;
  std::map<int, std::string> tracks;  // by tid

  std::vector<Read> of(const std::string& track, int rank = 0) const {
    std::vector<Read> found;
    for (const Read& e : events) {
      if (e.rank == rank && tracks.at(e.track) == track) found.push_back(e);
    }
    std::ranges::sort(found, [](const Read& a, const Read& b) {
      return a.start != b.start ? a.start < b.start : a.length > b.length;
    });
    return found;
  }
};

Trace parse(const std::string& text) {
  const rapidjson::Document json = parse_json(text);
  Trace trace;
  for (const auto& e : json["traceEvents"].GetArray()) {
    const std::string kind = e["ph"].GetString(), name = e["name"].GetString();
    if (kind == "M") {
      if (name == "thread_name") trace.tracks[e["tid"].GetInt()] = e["args"]["name"].GetString();
      continue;
    }
    EXPECT_EQ(kind, "X");
    trace.events.push_back({name, e.HasMember("cat") ? e["cat"].GetString() : "", e["pid"].GetInt(),
                            e["tid"].GetInt(), e["ts"].GetDouble(), e["dur"].GetDouble()});
    EXPECT_GE(trace.events.back().start, 0) << name;
    EXPECT_GE(trace.events.back().length, 0) << name;
  }
  return trace;
}

Trace bench_trace(const std::vector<std::string>& overrides, int ranks, int steps,
                  const ScratchFolder& scratch) {
  const std::string path = scratch / "trace.json";
  const Config config = small_config(overrides);
  comm::run_local(ranks, [&](comm::Communicator& communicator) {
    comm::Progress progress;
    run_bench(config, {.steps = steps, .trace = path}, communicator, progress);
  });
  std::ifstream file(path);
  return parse({std::istreambuf_iterator<char>(file), {}});
}

// In order of their starts: each lies inside the innermost that is open, or after it.
void expect_nested(const std::vector<Read>& events) {
  std::vector<Read> open;
  for (const Read& e : events) {
    while (!open.empty() && e.start >= open.back().end() - kRounding) open.pop_back();
    if (!open.empty()) {
      EXPECT_LE(e.end(), open.back().end() + kRounding) << e.name;
    }
    open.push_back(e);
  }
}

double sum(const std::vector<Read>& events, double from, double to) {
  double total = 0;
  for (const Read& e : events) {
    if (e.start >= from - kRounding && e.end() <= to + kRounding) total += e.length;
  }
  return total;
}

TEST(StepTrace, StepsConsistOfOpsAndUpdates) {
  const ScratchFolder scratch;
  const Trace trace = bench_trace({"train.batch=2", "runtime.threads=1"}, 1, 4, scratch);
  for (const char* track : {"compute", "data", "communication", "update"}) {
    SCOPED_TRACE(track);
    expect_nested(trace.of(track));
  }
  std::vector<Read> steps, ops;
  for (const Read& e : trace.of("compute")) (e.category == "step" ? steps : ops).push_back(e);
  ASSERT_EQ(steps.size(), 3u);         // of the 4
  EXPECT_EQ(steps[0].name, "step 5");  // after 3 of warm-up
  for (const Read& step : steps) {
    const double parts =
        sum(ops, step.start, step.end()) + sum(trace.of("update"), step.start, step.end());
    EXPECT_LE(parts, step.length + kRounding * static_cast<double>(ops.size())) << step.name;
    EXPECT_GE(parts, 0.9 * step.length) << step.name;
  }
}

TEST(StepTrace, NamesScopesAndOps) {
  const ScratchFolder scratch;
  const Trace trace = bench_trace({"train.batch=1", "runtime.threads=1"}, 1, 1, scratch);
  std::vector<std::string> names, updates;
  std::map<std::string, int> categories;
  for (const Read& e : trace.of("compute")) {
    names.push_back(e.name);
    ++categories[e.category];
  }
  for (const Read& e : trace.of("update")) updates.push_back(e.name);
  EXPECT_THAT(names, Contains("backbone.body.conv1: conv2d").Times(2));  // forward and backward
  EXPECT_THAT(names, Contains(HasSubstr("head.classification_head.cls_logits: conv2d")));
  EXPECT_GT(categories["forward"], 50);
  EXPECT_GT(categories["backward"], 50);
  EXPECT_THAT(updates, Contains("bucket 0 ready"));
  EXPECT_THAT(updates, Contains("finish updates"));
  const std::vector<Read> data = trace.of("data");
  ASSERT_EQ(data.size(), 1u);
  EXPECT_EQ(data[0].name, "synthetic batch");
}

TEST(StepTrace, EveryRankIsAProcessThatCommunicates) {
  const ScratchFolder scratch;
  const Trace trace = bench_trace({"train.batch=2", "runtime.threads=1"}, 2, 1, scratch);
  for (int rank : {0, 1}) {
    const std::vector<Read> calls = trace.of("communication", rank);
    EXPECT_FALSE(calls.empty()) << rank;
    EXPECT_FALSE(trace.of("compute", rank).empty()) << rank;
    expect_nested(calls);
  }
}

TEST(StepTrace, KeepsNanosecondsAndEscapesNames) {
  StepTrace trace(3, 100.0);
  trace.add({TraceTrack::kUpdate, "a \"b\"\n", 100.0 + 1.5e-6, 100.0 + 1.501e-6, "c", "d\\"});
  const Trace read = parse(trace_json({trace.events()}));
  ASSERT_EQ(read.events.size(), 1u);
  EXPECT_EQ(read.events[0].name, "a \"b\"\n");
  EXPECT_EQ(read.events[0].rank, 3);
  EXPECT_EQ(read.tracks.at(read.events[0].track), "update");
  EXPECT_NEAR(read.events[0].start, 1.5, 1e-3);
  EXPECT_NEAR(read.events[0].length, 0.001, 5e-4);
}

TEST(StepTrace, AFileInTheFoldersPlaceIsAnIoError) {
  const ScratchFolder scratch;
  std::ofstream(scratch / "taken") << "a file";
  comm::Progress progress;
  const auto communicator = comm::single_communicator();
  try {
    run_bench(small_config({"train.batch=1", "runtime.threads=1"}),
              {.steps = 1, .trace = scratch / "taken/trace.json"}, *communicator, progress);
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kIo);
    EXPECT_THAT(e.what(), HasSubstr("taken"));
  }
}

}  // namespace
}  // namespace trainer
