#include "trainer/checkpoint/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>
#include <signal.h>

#include <atomic>
#include <functional>
#include <random>

#include "tests/trainer/checkpoint/test_run.h"
#include "trainer/checkpoint/isolated.h"

namespace trainer {
namespace {

using comm::ExitCode;
using testing::HasSubstr;

constexpr hsize_t kRows = 6;
constexpr hsize_t kColumns = 5;

// A file as other programs write it; everything it makes is closed at the end.
class ForeignFile {
 public:
  explicit ForeignFile(const fs::path& path)
      : file_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)) {}
  ~ForeignFile() {
    for (auto close = closers_.rbegin(); close != closers_.rend(); ++close) (*close)();
    H5Fclose(file_);
  }
  hid_t file() const { return file_; }

  hid_t space(std::vector<hsize_t> dims) {
    return keep(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr), H5Sclose);
  }
  hid_t properties() { return keep(H5Pcreate(H5P_DATASET_CREATE), H5Pclose); }
  hid_t keep(hid_t id, herr_t (*close)(hid_t)) {
    EXPECT_GE(id, 0);
    closers_.push_back([=] { close(id); });
    return id;
  }
  // 6 x 5 elements 0, 1, 2, ... of the type.
  hid_t dataset(const char* name, hid_t type, hid_t dataset_properties = H5P_DEFAULT) {
    const hid_t id = keep(H5Dcreate2(file_, name, type, space({kRows, kColumns}), H5P_DEFAULT,
                                     dataset_properties, H5P_DEFAULT),
                          H5Dclose);
    std::vector<double> values(kRows * kColumns);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
    EXPECT_GE(H5Dwrite(id, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
    return id;
  }

 private:
  hid_t file_;
  std::vector<std::function<void()>> closers_;
};

hid_t half_type(ForeignFile& file) {
  const hid_t type = file.keep(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  EXPECT_GE(H5Tset_fields(type, 15, 10, 5, 0, 10), 0);
  EXPECT_GE(H5Tset_size(type, 2), 0);
  EXPECT_GE(H5Tset_ebias(type, 15), 0);
  return type;
}

class ForeignWeights : public testing::Test {
 protected:
  void expect_refused(const std::string& part) {
    std::string message;
    EXPECT_EQ(code_of([&] { read_weights(path); }, &message), ExitCode::kData) << part;
    EXPECT_THAT(message, HasSubstr(part));
    EXPECT_THAT(message, HasSubstr("weights.h5"));
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
  TestFolder folder;
  fs::path path = folder.path() / "weights.h5";
};

TEST_F(ForeignWeights, TypesAndLayouts) {
  {
    ForeignFile file(path);
    file.dataset("f32", H5T_IEEE_F32LE);
    file.dataset("f32be", H5T_IEEE_F32BE);
    file.dataset("f64", H5T_IEEE_F64LE);
    file.dataset("f16", half_type(file));
    file.dataset("i64", H5T_STD_I64LE);
    file.dataset("u8", H5T_STD_U8LE);
    const hid_t packed = file.properties();
    const hsize_t chunk[] = {4, 4};
    H5Pset_chunk(packed, 2, chunk);
    H5Pset_shuffle(packed);
    H5Pset_deflate(packed, 4);
    H5Pset_fletcher32(packed);
    file.dataset("packed", H5T_IEEE_F32LE, packed);
    const hid_t compact = file.properties();
    H5Pset_layout(compact, H5D_COMPACT);
    file.dataset("compact", H5T_IEEE_F32LE, compact);
    const hid_t scalar = file.keep(
        H5Dcreate2(file.file(), "scalar", H5T_STD_I32LE, file.keep(H5Screate(H5S_SCALAR), H5Sclose),
                   H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
        H5Dclose);
    const int seven = 7;
    H5Dwrite(scalar, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, &seven);
  }
  const TensorMap tensors = read_weights(path);
  EXPECT_EQ(tensors.size(), 9u);
  for (const char* name : {"f32", "f32be", "f64", "f16", "packed", "compact"}) {
    const Array& array = tensors.at(name);
    EXPECT_EQ(array.shape, (std::vector<std::int64_t>{kRows, kColumns})) << name;
    for (std::size_t i = 0; i < kRows * kColumns; ++i)
      ASSERT_EQ(array.floats()[i], static_cast<float>(i)) << name;
  }
  for (const char* name : {"i64", "u8"}) EXPECT_EQ(tensors.at(name).integers()[29], 29) << name;
  EXPECT_TRUE(tensors.at("scalar").shape.empty());
  EXPECT_EQ(tensors.at("scalar").integers()[0], 7);
}

TEST_F(ForeignWeights, ModelOfACheckpoint) {
  save_step(folder, 1, 4);
  const TensorMap tensors = read_weights(folder.path() / "checkpoints/step-00000004/model.h5");
  const TestState state(4);
  EXPECT_TRUE(std::ranges::equal(tensors.at("head.scale").floats(), state.tensors[2].values));
}

using Make = std::function<void(ForeignFile&, const fs::path& folder)>;

using Cases = std::vector<std::pair<std::string, Make>>;

Cases structure_cases() {
  return {
      {"\"layer1\" is a group",
       [](ForeignFile& f, const fs::path&) {
         f.keep(H5Gcreate2(f.file(), "layer1", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose);
       }},
      {"\"soft\" is a link",
       [](ForeignFile& f, const fs::path&) {
         f.dataset("w", H5T_IEEE_F32LE);
         H5Lcreate_soft("/w", f.file(), "soft", H5P_DEFAULT, H5P_DEFAULT);
       }},
      {"\"outside\" is a link",
       [](ForeignFile& f, const fs::path&) {
         H5Lcreate_external("/etc/passwd", "/", f.file(), "outside", H5P_DEFAULT, H5P_DEFAULT);
       }},
      {"\"w\" has its data in another file",
       [](ForeignFile& f, const fs::path& folder) {
         const hid_t p = f.properties();
         H5Pset_external(p, (folder / "raw").c_str(), 0, kRows * kColumns * 4);
         f.dataset("w", H5T_IEEE_F32LE, p);
       }},
      {"\"v\" is a virtual dataset",
       [](ForeignFile& f, const fs::path&) {
         const hid_t p = f.properties();
         const hid_t s = f.space({kRows, kColumns});
         H5Pset_virtual(p, s, "other.h5", "w", s);
         f.keep(H5Dcreate2(f.file(), "v", H5T_IEEE_F32LE, s, H5P_DEFAULT, p, H5P_DEFAULT),
                H5Dclose);
       }},
  };
}

Cases type_cases() {
  return {
      {"\"text\" is neither a floating-point number",
       [](ForeignFile& f, const fs::path&) {
         const hid_t type = f.keep(H5Tcopy(H5T_C_S1), H5Tclose);
         H5Tset_size(type, H5T_VARIABLE);
         f.keep(H5Dcreate2(f.file(), "text", type, f.space({2}), H5P_DEFAULT, H5P_DEFAULT,
                           H5P_DEFAULT),
                H5Dclose);
       }},
      {"\"reference\" is neither",
       [](ForeignFile& f, const fs::path&) {
         f.keep(H5Dcreate2(f.file(), "reference", H5T_STD_REF_OBJ, f.space({2}), H5P_DEFAULT,
                           H5P_DEFAULT, H5P_DEFAULT),
                H5Dclose);
       }},
      {"\"type\" is a group or a type",
       [](ForeignFile& f, const fs::path&) {
         const hid_t type = f.keep(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
         H5Tcommit2(f.file(), "type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
       }},
      {"\"null\" is empty",
       [](ForeignFile& f, const fs::path&) {
         f.keep(H5Dcreate2(f.file(), "null", H5T_IEEE_F32LE, f.keep(H5Screate(H5S_NULL), H5Sclose),
                           H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                H5Dclose);
       }},
  };
}

Cases storage_cases() {
  return {
      {"has 9 dimensions",
       [](ForeignFile& f, const fs::path&) {
         f.keep(H5Dcreate2(f.file(), "deep", H5T_IEEE_F32LE, f.space({1, 1, 1, 1, 1, 1, 1, 1, 1}),
                           H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                H5Dclose);
       }},
      {"claims more than",
       [](ForeignFile& f, const fs::path&) {
         const hid_t p = f.properties();
         const hsize_t chunk[] = {1, 1};
         H5Pset_chunk(p, 2, chunk);
         f.keep(
             H5Dcreate2(f.file(), "huge", H5T_IEEE_F32LE,
                        f.space({hsize_t{1} << 40, hsize_t{1} << 20}), H5P_DEFAULT, p, H5P_DEFAULT),
             H5Dclose);
       }},
      {"has no data stored",
       [](ForeignFile& f, const fs::path&) {
         f.keep(H5Dcreate2(f.file(), "lazy", H5T_IEEE_F32LE, f.space({1 << 20}), H5P_DEFAULT,
                           H5P_DEFAULT, H5P_DEFAULT),
                H5Dclose);
       }},
      {"filter other than deflate",
       [](ForeignFile& f, const fs::path&) {
         const hid_t p = f.properties();
         const hsize_t chunk[] = {4, 4};
         H5Pset_chunk(p, 2, chunk);
         H5Pset_nbit(p);
         f.dataset("w", H5T_IEEE_F32LE, p);
       }},
      {"holds no tensor", [](ForeignFile&, const fs::path&) {}},
  };
}

TEST_F(ForeignWeights, EverythingElseIsRefusedByName) {
  for (const Cases& cases : {structure_cases(), type_cases(), storage_cases()}) {
    for (const auto& [part, make] : cases) {
      { make(*std::make_unique<ForeignFile>(path), folder); }
      expect_refused(part);
    }
  }
}

TEST_F(ForeignWeights, NotHdf5) {
  for (const std::string& text :
       {std::string(), std::string("PK\x03\x04 a zip"), std::string(100000, '\x80')}) {
    write_text(path, text);
    expect_refused("expected HDF5");
  }
  EXPECT_EQ(code_of([&] { read_weights(folder.path() / "none.h5"); }), ExitCode::kInputMissing);
}

// Whatever is in the file, this process survives and gets either tensors or kData.
TEST_F(ForeignWeights, DamagedFiles) {
  {
    ForeignFile file(path);
    file.dataset("a", H5T_IEEE_F32LE);
    file.dataset("b", H5T_IEEE_F64LE);
  }
  const std::string good = read_text(path);
  std::mt19937 random(3);
  int num_refused = 0;
  const auto attempt = [&](const std::string& text) {
    write_text(path, text);
    const ExitCode code = code_of([&] { read_weights(path); });
    ASSERT_TRUE(code == ExitCode::kDone || code == ExitCode::kData) << static_cast<int>(code);
    num_refused += code == ExitCode::kData;
  };
  for (int i = 0; i < 400; ++i) {
    std::string text = good;
    for (int flips = 1 + i % 3; flips > 0; --flips)
      text[random() % text.size()] ^= static_cast<char>(1 << random() % 8);
    attempt(text);
  }
  EXPECT_GT(num_refused, 20);
  for (std::size_t size = 0; size < good.size(); size += 64) {
    num_refused = 0;
    attempt(good.substr(0, size));
    EXPECT_EQ(num_refused, 1) << size;
  }
}

void nothing(Stream&) {}

TEST(Isolated, CrashIsContained) {
  std::string message;
  EXPECT_EQ(code_of([] { run_isolated([](Stream&) { ::raise(SIGKILL); }, nothing); }, &message),
            ExitCode::kData);
  EXPECT_THAT(message, HasSubstr("signal 9"));
}

TEST(Isolated, ChildCannotOpenFiles) {
  if (kMaxFilesOfChild > 0) GTEST_SKIP() << "a sanitizer opens files of its own";
  const auto open_one = [](Stream&) {
    throw std::runtime_error(std::ofstream("/dev/null").is_open() ? "opened" : "could not open");
  };
  std::string message;
  EXPECT_EQ(code_of([&] { run_isolated(open_one, nothing); }, &message), ExitCode::kData);
  EXPECT_EQ(message, "could not open");
}

TEST(Isolated, ChildThatNeverStopsIsStopped) {
  const auto write_for_ever = [](Stream& out) {
    const std::vector<std::byte> block(4096);
    for (;;) out.write(block);
  };
  const auto sleep_for_ever = [](Stream& out) {
    const std::byte one{1};
    out.write({&one, 1});
    for (;;) ::pause();
  };
  const auto give_up = [](Stream& in) {
    std::byte first;
    in.read({&first, 1});
    comm::fail(ExitCode::kData, "seen enough");
  };
  EXPECT_EQ(code_of([&] { run_isolated(write_for_ever, give_up); }), ExitCode::kData);
  EXPECT_EQ(code_of([&] { run_isolated(sleep_for_ever, give_up); }), ExitCode::kData);
}

TEST(OpenWeights, EveryKindOfPath) {
  const TestFolder run;
  save_step(run, 2, 1, {}, true);
  save_step(run, 2, 2);
  const fs::path checkpoints = run.path() / "checkpoints";
  comm::run_local(2, [&](comm::Communicator& comm) {
    const auto open = [&](const fs::path& path) { return open_weights(path, false, comm, {}); };
    const auto first = [](const Weights& w) { return w.tensors.at("head.scale").floats()[0]; };
    const float one = TestState(1).tensors[2].values[0];
    const float two = TestState(2).tensors[2].values[0];
    EXPECT_EQ(first(open(run)), two);
    EXPECT_EQ(open(run).meta->step, 2);
    EXPECT_EQ(first(open(checkpoints / "best")), one);
    EXPECT_EQ(first(open(checkpoints / "step-00000002")), two);
    const Weights file = open(checkpoints / "step-00000002/model.h5");
    EXPECT_EQ(first(file), two);
    EXPECT_FALSE(file.meta);
    EXPECT_EQ(code_of([&] { open(run.path() / "none"); }), ExitCode::kInputMissing);
    EXPECT_EQ(code_of([&] { open_weights(run, true, comm, {}); }), ExitCode::kCheckpointRefused);
  });
}

}  // namespace
}  // namespace trainer
