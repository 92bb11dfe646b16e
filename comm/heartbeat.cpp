#include "comm/heartbeat.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <exception>
#include <limits>
#include <vector>

#include "comm/verdict.h"

namespace comm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kGoodbye{2000};  // how long the end waits for the others' last word
constexpr double kLongestLimit = std::numeric_limits<std::int32_t>::max();  // ms
constexpr milliseconds kAbort{1000};  // how long an abort may take before the process just ends

milliseconds since(Clock::time_point from, Clock::time_point now) {
  return std::chrono::duration_cast<milliseconds>(now - from);
}

// A beat as it travels: the exchange moves floats, whose bits it does not touch.
using Wire = std::array<float, sizeof(Beat) / sizeof(float)>;
static_assert(sizeof(Wire) == sizeof(Beat));

// This rank's own condition, measured by its own clock.
class Self {
 public:
  Self(const Progress& progress, const HeartbeatOptions& options)
      : progress_(progress), options_(options) {}

  Beat beat(Clock::time_point now) {
    if (progress_.count() != count_) {
      count_ = progress_.count();
      average_ms_ += 0.1 * (static_cast<double>(since(changed_, now).count()) - average_ms_);
      changed_ = now;
    }
    const Phase phase = progress_.phase();
    const milliseconds asked = progress_.limit(options_.limit);
    const milliseconds limit = phase == Phase::kStep ? asked : std::max(options_.long_limit, asked);
    Beat beat;
    beat.step = progress_.step();
    beat.phase = static_cast<std::uint8_t>(phase);
    beat.waiting = progress_.waiting();
    beat.still_ms = static_cast<std::int32_t>(since(changed_, now).count());
    const double allowed = std::max(static_cast<double>(limit.count()), 10 * average_ms_);
    beat.allowed_ms = static_cast<std::int32_t>(std::min(allowed, kLongestLimit));
    return beat;
  }
  void forgive(Clock::duration slept) { changed_ += slept; }

 private:
  const Progress& progress_;
  const HeartbeatOptions& options_;
  std::uint64_t count_ = 0;
  Clock::time_point changed_ = Clock::now();
  double average_ms_ = 0;
};

// Both directions to one rank: at most one beat under way each way.
class Line {
 public:
  Line(Communicator& channel, int peer) : channel_(channel), peer_(peer) { listen(); }

  void send(const Beat& beat) {
    if (sending_ && !sending_->test()) return;  // a stopped peer takes nothing: never queue up
    out_ = std::bit_cast<Wire>(beat);
    const Message message{peer_, out_};
    sending_ = channel_.exchange({&message, 1}, {}, 0);
  }
  bool sent() { return !sending_ || sending_->test(); }
  // Takes all that arrived.
  void receive(Clock::time_point now) {
    while (receiving_ && receiving_->test()) {
      last_ = std::bit_cast<Beat>(in_);
      heard_ = now;
      receiving_.reset();
      if (!last_.left) listen();
    }
  }
  void forgive(Clock::duration slept) { heard_ += slept; }

  const Beat& last() const { return last_; }
  milliseconds silent(Clock::time_point now) const { return since(heard_, now); }

 private:
  void listen() {
    const Message message{peer_, in_};
    receiving_ = channel_.exchange({}, {&message, 1}, 0);
  }

  Communicator& channel_;
  int peer_;
  Beat last_;
  Clock::time_point heard_ = Clock::now();
  Wire in_{}, out_{};
  std::unique_ptr<Request> sending_, receiving_;
};

// Rank 0 has a line to every other rank, they have one to it.
struct Watch {
  Watch(Communicator& channel) : rank(channel.rank()), lines(channel.size()) {
    for (int peer = 0; peer < channel.size(); ++peer)
      if (peer != rank && (rank == 0 || peer == 0))
        lines[peer] = std::make_unique<Line>(channel, peer);
  }
  template <typename Do>
  void each(Do action) {
    for (auto& line : lines)
      if (line) action(*line);
  }
  std::vector<RankState> states(const Beat& own, Clock::time_point now) const {
    std::vector<RankState> states(lines.size());
    for (std::size_t peer = 0; peer < lines.size(); ++peer)
      if (lines[peer])
        states[peer] = {lines[peer]->last(), lines[peer]->silent(now)};
      else
        states[peer].watched = static_cast<int>(peer) == rank;
    states[static_cast<std::size_t>(rank)].beat = own;
    return states;
  }

  int rank;
  std::vector<std::unique_ptr<Line>> lines;
};

// Says the last word and waits, a little, for that of the others.
void say_goodbye(Watch& watch, Beat beat) {
  beat.left = true;
  std::vector<bool> told(watch.lines.size());
  const auto end = Clock::now() + kGoodbye;
  for (bool done = false; !done && Clock::now() < end;) {
    done = true;
    for (std::size_t peer = 0; peer < watch.lines.size(); ++peer) {
      if (!watch.lines[peer]) continue;
      Line& line = *watch.lines[peer];
      line.receive(Clock::now());
      if (!told[peer] && line.sent()) {
        line.send(beat);
        told[peer] = true;
      }
      done = done && told[peer] && line.sent() && line.last().left;
    }
    if (!done) std::this_thread::sleep_for(milliseconds(2));
  }
}

}  // namespace

Heartbeat::Heartbeat(Communicator& communicator, Progress& progress, HeartbeatOptions options)
    : communicator_(communicator), progress_(progress), options_(std::move(options)) {
  REQUIRE(options_.limit.count() > 0 && options_.long_limit >= options_.limit,
          "limits {} and {} ms", options_.limit.count(), options_.long_limit.count());
  if (communicator.size() == 1) return;
  channel_ = communicator.split(0);
  thread_ = std::thread([this] {
    try {
      run();
    } catch (const Error&) {
      // The channel is broken: the training thread's own calls fail alike and say so.
    }
  });
}

Heartbeat::~Heartbeat() {
  // With an exception this process ends soon: the others must not take it for a good end, and may
  // be too busy to answer.
  failing_ = std::uncaught_exceptions() > 0;
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void Heartbeat::run() {
  // A tick costs a few microseconds; 2 s beyond the limit have room for four.
  const auto tick = std::clamp(options_.limit / 20, milliseconds(5), milliseconds(500));
  Watch watch(*channel_);
  Self self(progress_, options_);
  // Others than rank 0 see it fall silent at the same time: one speaks first.
  const milliseconds turn = milliseconds(200) * std::clamp(watch.rank - 1, 0, 5);
  bool lost = false;
  for (auto before = Clock::now(); !stopping_; std::this_thread::sleep_for(tick)) {
    const auto now = Clock::now();
    // This process itself was stopped, or starved: the others did not fall silent meanwhile.
    if (const auto slept = now - before - tick; slept > 4 * tick) {
      self.forgive(slept);
      watch.each([&](Line& line) { line.forgive(slept); });
    }
    before = now;
    const Beat own = self.beat(now);
    watch.each([&](Line& line) {
      line.receive(now);
      if (!line.last().left) line.send(own);
    });
    if (lost) continue;
    const auto states = watch.states(own, now);
    const auto verdict = watch.rank == 0 ? judge(states, options_.limit)
                                         : judge_silence(states, options_.limit + turn);
    if (!verdict) continue;
    lost = true;
    report(describe(*verdict, states, communicator_));
  }
  if (!failing_) say_goodbye(watch, self.beat(Clock::now()));
}

void Heartbeat::report(const std::string& line) {
  if (options_.on_lost) return options_.on_lost(line);
  const std::string text = line + "\n";
  static_cast<void>(!write(STDERR_FILENO, text.data(), text.size()));
  // The abort itself may hang when the network is gone.
  std::thread([] {
    std::this_thread::sleep_for(kAbort);
    std::_Exit(static_cast<int>(ExitCode::kPeerLost));
  }).detach();
  communicator_.abort(ExitCode::kPeerLost);
}

}  // namespace comm
