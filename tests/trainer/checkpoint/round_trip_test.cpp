#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/checkpoint/test_run.h"
#include "trainer/checkpoint/digest.h"
#include "trainer/checkpoint/hdf5_image.h"
#include "trainer/checkpoint/manifest.h"

namespace trainer {
namespace {

class RankCounts : public testing::TestWithParam<std::tuple<int, int>> {};

// Written by W ranks, read by W' ranks, each its own part: the parts together are the whole.
TEST_P(RankCounts, AnyNumberReadsWhatAnyOtherWrote) {
  const auto [writers, readers] = GetParam();
  const TestFolder run;
  save_step(run, writers, 3);
  const TestState state(3);
  comm::run_local(readers, [&](comm::Communicator& comm) {
    const std::optional<Checkpoint> found = newest_valid(run.path(), comm, {});
    ASSERT_TRUE(found);
    EXPECT_EQ(found->meta().world_size, writers);
    EXPECT_THAT(found->states(), testing::ElementsAre("momentum"));
    const Snapshot mine = state.snapshot(comm.rank(), comm.size());
    std::vector<std::vector<float>> read;
    std::vector<StateRange> ranges;
    for (const StatePiece& piece : mine.optimizer) {
      read.emplace_back(piece.values.size(), -1.0f);
      ranges.push_back({piece.state, piece.tensor, piece.begin, piece.end, read.back()});
    }
    found->read_state(ranges);
    for (std::size_t i = 0; i < read.size(); ++i)
      EXPECT_TRUE(std::ranges::equal(read[i], mine.optimizer[i].values)) << ranges[i].tensor;
  });
  state.expect_equal(*newest(run));
}

INSTANTIATE_TEST_SUITE_P(All, RankCounts,
                         testing::Combine(testing::Values(1, 2, 3, 4, 8),
                                          testing::Values(1, 2, 3, 4, 8)));

TEST(RoundTrip, MetaAndEma) {
  const TestFolder run;
  const TestState state(42);
  const auto comm = comm::single_communicator();
  CheckpointStore store(run, *comm);
  Snapshot snapshot = state.snapshot(0, 1, /*with_ema=*/true);
  snapshot.meta.config = {{"a", "1", ConfigClass::kIdentity},
                          {"b", "\x01\xff\n\"", ConfigClass::kRuntime},
                          {"c", "", ConfigClass::kSchedule}};
  store.save_final(snapshot);
  const Checkpoint found = std::move(*newest(run));
  state.expect_equal(found);
  EXPECT_EQ(found.meta().epoch, 4);
  EXPECT_EQ(found.meta().versions, snapshot.meta.versions);
  EXPECT_EQ(found.meta().notes, snapshot.meta.notes);
  ASSERT_EQ(found.meta().config.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(found.meta().config[i].key, snapshot.meta.config[i].key);
    EXPECT_EQ(found.meta().config[i].value, snapshot.meta.config[i].value);
    EXPECT_EQ(found.meta().config[i].kind, snapshot.meta.config[i].kind);
  }
  ASSERT_TRUE(found.has_ema());
  EXPECT_TRUE(std::ranges::equal(found.ema().at("backbone.body.bn1.bias").floats(),
                                 state.tensors[1].momentum));
}

TEST(RoundTrip, NoEmaIsRefusedNotInvented) {
  const TestFolder run;
  save_step(run, 1, 1);
  const Checkpoint found = std::move(*newest(run));
  EXPECT_FALSE(found.has_ema());
  EXPECT_EQ(code_of([&] { found.ema(); }), comm::ExitCode::kCheckpointRefused);
}

TEST(RoundTrip, RangesAcrossShards) {
  const TestFolder run;
  save_step(run, 3, 5);
  const TestState state(5);
  const Checkpoint found = std::move(*newest(run));
  const std::vector<float>& momentum = state.tensors[0].momentum;
  const auto count = std::ssize(momentum);
  for (std::int64_t begin = 0; begin < count; begin += 37)
    for (std::int64_t end = begin; end <= count; end += 53) {
      std::vector<float> out(static_cast<std::size_t>(end - begin));
      found.read_range("momentum", state.tensors[0].name, begin, end, out);
      EXPECT_TRUE(std::equal(out.begin(), out.end(), momentum.begin() + begin));
    }
}

TEST(RoundTrip, MissingStateIsRefused) {
  const TestFolder run;
  save_step(run, 2, 5);
  const Checkpoint found = std::move(*newest(run));
  std::vector<float> out(10);
  std::string message;
  EXPECT_EQ(code_of([&] { found.read_range("momentum", "no.such", 0, 10, out); }, &message),
            comm::ExitCode::kCheckpointRefused);
  EXPECT_THAT(message, testing::HasSubstr("\"no.such\": 0 of the elements [0, 10)"));
  EXPECT_EQ(code_of([&] {
              found.read_range("variance", "head.scale", 0, 1, {out.data(), 1});
            }),
            comm::ExitCode::kCheckpointRefused);
  EXPECT_EQ(code_of([&] {
              found.read_range("momentum", "head.scale", 0, 2, {out.data(), 2});
            }),
            comm::ExitCode::kCheckpointRefused);
}

// The files of rank 0 do not depend on time, memory contents or the number of ranks.
TEST(RoundTrip, SameStateSameBytes) {
  const TestFolder a;
  const TestFolder b;
  save_step(a, 1, 9);
  save_step(b, 3, 9);
  EXPECT_EQ(read_text(a.path() / "checkpoints/step-00000009/model.h5"),
            read_text(b.path() / "checkpoints/step-00000009/model.h5"));
}

// Built in the memory of former saves of other sizes, and in the background: nothing is left there.
TEST(RoundTrip, ReusedMemorySameBytes) {
  const TestFolder reused;
  const TestFolder fresh;
  constexpr std::int64_t kLargest[] = {300, 90000, 90000, 300};
  comm::run_local(2, [&](comm::Communicator& comm) {
    CheckpointStore store(reused, comm);
    for (std::int64_t step = 1; step <= 4; ++step) {
      const TestState state(step, kLargest[step - 1]);
      Snapshot snapshot = state.snapshot(comm.rank(), comm.size(), /*with_ema=*/true);
      snapshot.kept = step != 2;
      store.save_async(snapshot);
      store.finish();
    }
    const TestState last(4);
    CheckpointStore(fresh, comm).save_final(last.snapshot(comm.rank(), comm.size(), true));
  });
  TestState(4).expect_equal(*newest(reused));
  for (const char* name : {kModelName, kEmaName}) {
    const std::string file = std::string("checkpoints/step-00000004/") + name;
    EXPECT_EQ(read_text(reused.path() / file), read_text(fresh.path() / file));
  }
}

TEST(RoundTrip, BigTensorAndManyTensors) {
  std::vector<float> values(5'000'011);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.5f;
  const auto big = std::as_bytes(std::span(values));
  ImageWriter writer(1);  // too little room on purpose: it grows
  writer.write("big", {"big", {std::ssize(values)}, ElementType::kFloat32, big});
  constexpr int kMany = 3000;
  for (int i = 0; i < kMany; ++i)
    writer.write(fmt::format("momentum/tensor.{}/0-3", i),
                 {"", {3}, ElementType::kFloat32, big.subspan(12 * i, 12)});
  const ImageBytes image = writer.finish();
  const ImageReader reader(image.bytes(), Trust::kOwn);
  EXPECT_TRUE(std::ranges::equal(reader.read("big").floats(), values));
  for (int i = 0; i < kMany; i += 97)
    EXPECT_EQ(reader.read(fmt::format("momentum/tensor.{}/0-3", i)).floats()[2], values[3 * i + 2]);
}

TEST(RoundTrip, WrongSizesAndNamesAreBugsOfTheCaller) {
  const TestFolder run;
  const TestState state(1);
  const auto comm = comm::single_communicator();
  CheckpointStore store(run, *comm);
  for (const char* name : {"../x", "a/b", "", ".", "a b", "n\n"}) {
    Snapshot snapshot = state.snapshot(0, 1);
    snapshot.model[0].name = name;
    EXPECT_EQ(code_of([&] { store.save_async(snapshot); }), comm::ExitCode::kBug) << name;
  }
  Snapshot twice = state.snapshot(0, 1);
  twice.model.push_back(twice.model[0]);
  EXPECT_EQ(code_of([&] { store.save_async(twice); }), comm::ExitCode::kBug);
  Snapshot shape = state.snapshot(0, 1);
  shape.model[0].shape[0] += 1;
  EXPECT_EQ(code_of([&] { store.save_async(shape); }), comm::ExitCode::kBug);
  Snapshot piece = state.snapshot(0, 1);
  piece.optimizer[0].end += 1;
  EXPECT_EQ(code_of([&] { store.save_async(piece); }), comm::ExitCode::kBug);
  store.save_final(state.snapshot(0, 1));  // none of it did any harm
  state.expect_equal(*newest(run));
}

TEST(RoundTrip, DigestsAreThoseOfXxh128sum) {
  // Of the empty input: https://github.com/Cyan4973/xxHash/blob/dev/tests/sanity_test_vectors.h
  EXPECT_EQ(digest_of({}), "99aa06d3014798d86001c324468d497f");
  Hasher pieces;
  const std::string text(100000, 'x');
  for (std::size_t i = 0; i < text.size(); i += 999)
    pieces.add(
        std::as_bytes(std::span(text).subspan(i, std::min<std::size_t>(999, text.size() - i))));
  EXPECT_EQ(pieces.hex(), digest_of(std::as_bytes(std::span(text))));
}

}  // namespace
}  // namespace trainer
