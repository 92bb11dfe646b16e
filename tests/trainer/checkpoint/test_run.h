#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator_local.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/store.h"

namespace trainer {

namespace fs = std::filesystem;

// A folder that disappears with the test; in memory where possible, since fsync to a disk takes
// milliseconds and a power cut is simulated elsewhere.
class TestFolder {
 public:
  TestFolder() {
    const fs::path memory = "/dev/shm";
    const bool usable = ::access(memory.c_str(), W_OK) == 0;
    std::string name =
        ((usable ? memory : fs::temp_directory_path()) / "ridgeline-checkpoint-XXXXXX").native();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~TestFolder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }
  operator const fs::path&() const { return path_; }

 private:
  fs::path path_;
};

// Tensors whose values are a function of the step, so that old and new state can be told apart.
struct TestState {
  struct Tensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<float> values;
    std::vector<float> momentum;
  };
  std::vector<Tensor> tensors;
  std::int64_t num_batches = 0;
  std::int64_t step = 0;

  explicit TestState(std::int64_t at_step, std::int64_t largest = 300) : step(at_step) {
    num_batches = 10 * step;
    add("backbone.body.conv1.weight", {largest / 6, 2, 3});
    add("backbone.body.bn1.bias", {7});
    add("head.scale", {});
    add("head.nothing", {0, 4});
  }

  // The part of rank `rank` of `size`; views of this object.
  Snapshot snapshot(int rank, int size, bool with_ema = false) const {
    Snapshot s;
    s.meta.step = step;
    s.meta.epoch = step / 10;
    s.meta.config = {{"optimizer.lr", "0.1", ConfigClass::kSchedule}};
    s.meta.versions = {{"ridgeline", "test"}};
    s.meta.notes = {{"data", "fingerprint \"of\"\nstep " + std::to_string(step)}};
    if (rank == 0) {
      for (const Tensor& t : tensors)
        s.model.push_back({t.name, t.shape, ElementType::kFloat32, bytes(t.values)});
      s.model.push_back({"backbone.body.bn1.num_batches_tracked",
                         {},
                         ElementType::kInt64,
                         std::as_bytes(std::span(&num_batches, 1))});
      if (with_ema)
        for (const Tensor& t : tensors)
          s.ema.push_back({t.name, t.shape, ElementType::kFloat32, bytes(t.momentum)});
    }
    for (const Tensor& t : tensors) {
      const auto count = static_cast<std::int64_t>(t.momentum.size());
      const std::int64_t begin = count * rank / size;
      const std::int64_t end = count * (rank + 1) / size;
      s.optimizer.push_back(
          {"momentum", t.name, begin, end, std::span(t.momentum).subspan(begin, end - begin)});
    }
    return s;
  }

  // Everything in the checkpoint, bit for bit.
  void expect_equal(const Checkpoint& checkpoint) const {
    ASSERT_EQ(checkpoint.meta().step, step);
    const TensorMap model = checkpoint.model();
    ASSERT_EQ(model.size(), tensors.size() + 1);
    for (const Tensor& t : tensors) {
      const Array& found = model.at(t.name);
      EXPECT_EQ(found.shape, t.shape) << t.name;
      EXPECT_TRUE(std::ranges::equal(found.floats(), t.values)) << t.name;
      std::vector<float> momentum(t.momentum.size());
      checkpoint.read_range("momentum", t.name, 0, std::ssize(momentum), momentum);
      EXPECT_EQ(momentum, t.momentum) << t.name;
    }
    const Array& count = model.at("backbone.body.bn1.num_batches_tracked");
    EXPECT_TRUE(count.shape.empty());
    EXPECT_EQ(count.integers()[0], num_batches);
  }

 private:
  static std::span<const std::byte> bytes(const std::vector<float>& values) {
    return std::as_bytes(std::span(values));
  }
  void add(const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t n : shape) count *= n;
    Tensor t{name, std::move(shape), {}, {}};
    for (std::int64_t i = 0; i < count; ++i) {
      t.values.push_back(static_cast<float>(i + 1000 * step + std::ssize(tensors)) * 0.37f);
      t.momentum.push_back(static_cast<float>(i - 77 * step) / 3.0f);
    }
    tensors.push_back(std::move(t));
  }
};

// One committed save of the state at `step` by `size` ranks.
inline void save_step(const fs::path& run, int size, std::int64_t step, StoreOptions options = {},
                      bool best = false) {
  const TestState state(step);
  comm::run_local(size, [&](comm::Communicator& comm) {
    CheckpointStore store(run, comm, options);
    Snapshot snapshot = state.snapshot(comm.rank(), comm.size());
    snapshot.meta.best = best;
    store.save_final(snapshot);
  });
}

inline std::optional<Checkpoint> newest(const fs::path& run,
                                        std::vector<std::string>* notes = nullptr) {
  const auto comm = comm::single_communicator();
  return newest_valid(run, *comm, [notes](const std::string& text) {
    if (notes != nullptr) notes->push_back(text);
  });
}

inline std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_text(const fs::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

// The code of the comm::Error that `work` throws; kDone when it throws none.
template <typename Work>
comm::ExitCode code_of(Work&& work, std::string* message = nullptr) {
  try {
    work();
  } catch (const comm::Error& error) {
    if (message != nullptr) *message = error.what();
    return error.code();
  }
  return comm::ExitCode::kDone;
}

inline std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().native());
  std::ranges::sort(names);
  return names;
}

}  // namespace trainer
