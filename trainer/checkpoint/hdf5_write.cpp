#include <hdf5.h>

#include <algorithm>

#include "trainer/checkpoint/hdf5_handle.h"
#include "trainer/checkpoint/hdf5_image.h"
#include "trainer/checkpoint/hdf5_memory.h"
#include "trainer/checkpoint/text.h"

namespace trainer {
namespace {

constexpr comm::ExitCode kBug = comm::ExitCode::kBug;

hid_t file_type(ElementType type) {
  return type == ElementType::kFloat32 ? H5T_IEEE_F32LE : H5T_STD_I64LE;
}

hid_t memory_type(ElementType type) {
  return type == ElementType::kFloat32 ? H5T_NATIVE_FLOAT : H5T_NATIVE_INT64;
}

hid_t make_space(const std::vector<std::int64_t>& shape) {
  if (shape.empty()) return H5Screate(H5S_SCALAR);
  const std::vector<hsize_t> dims(shape.begin(), shape.end());
  return H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
}

std::size_t expected_bytes(const NamedArray& array) {
  std::size_t count = element_bytes(array.type);
  for (const std::int64_t n : array.shape) {
    REQUIRE(n >= 0, "{} has a dimension of {}", array.name, n);
    REQUIRE(!__builtin_mul_overflow(count, static_cast<std::size_t>(n), &count),
            "the size of {} overflows", array.name);
  }
  return count;
}

}  // namespace

struct ImageWriter::State {
  Hdf5Memory memory;
  Hdf5Handle link_properties;
  Hdf5Handle dataset_properties;
  Hdf5Handle file;
  std::vector<float> written;  // by NamedArray::write; new memory takes longer than to write it

  const void* elements_of(const NamedArray& array) {
    if (!array.write) return array.bytes.data();
    REQUIRE(array.type == ElementType::kFloat32, "{} is written as floats", array.name);
    const std::size_t count = array.bytes.size() / sizeof(float);
    written.resize(std::max(written.size(), count));
    array.write(std::span(written).first(count));
    return written.data();
  }

  State(std::size_t capacity, ImageBytes spare)
      : link_properties(H5Pcreate(H5P_LINK_CREATE), H5Pclose, kBug, "create", "link properties"),
        dataset_properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, kBug, "create",
                           "dataset properties"),
        file(create(memory, capacity, std::move(spare)), H5Fclose, kBug, "create",
             "the file image") {
    check_hdf5(H5Pset_create_intermediate_group(link_properties.get(), 1), kBug, "set",
               "link properties");
    // No time stamps and no fill values: equal state gives equal bytes.
    check_hdf5(H5Pset_obj_track_times(dataset_properties.get(), false), kBug, "set",
               "dataset properties");
    check_hdf5(H5Pset_fill_time(dataset_properties.get(), H5D_FILL_TIME_NEVER), kBug, "set",
               "dataset properties");
  }

  static hid_t create(Hdf5Memory& memory, std::size_t capacity, ImageBytes spare) {
    Hdf5Handle access(memory.properties_for_writing(capacity, std::move(spare)), H5Pclose, kBug,
                      "create", "file properties");
    const hid_t file =
        H5Fcreate(unique_image_name().c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get());
    if (file >= 0) access.close();
    return file;
  }
};

ImageWriter::ImageWriter(std::size_t payload_bytes, ImageBytes spare) {
  prepare_hdf5();
  constexpr std::size_t kMetadataBytes = std::size_t{1} << 20;  // more is made when it runs out
  state_ = std::make_unique<State>(payload_bytes + kMetadataBytes, std::move(spare));
}

ImageWriter::~ImageWriter() = default;

void ImageWriter::write(const std::string& path, const NamedArray& array) {
  const std::string object = quote_text(path);
  REQUIRE(expected_bytes(array) == array.bytes.size(), "{} has {} bytes, its shape says {}", object,
          array.bytes.size(), expected_bytes(array));
  Hdf5Handle space(make_space(array.shape), H5Sclose, kBug, "create the space of", object);
  Hdf5Handle dataset(
      H5Dcreate2(state_->file.get(), path.c_str(), file_type(array.type), space.get(),
                 state_->link_properties.get(), state_->dataset_properties.get(), H5P_DEFAULT),
      H5Dclose, kBug, "create", object);
  if (!array.bytes.empty())
    check_hdf5(H5Dwrite(dataset.get(), memory_type(array.type), H5S_ALL, H5S_ALL, H5P_DEFAULT,
                        state_->elements_of(array)),
               kBug, "write", object);
  dataset.close();
  space.close();
}

ImageBytes ImageWriter::finish() {
  check_hdf5(H5Fflush(state_->file.get(), H5F_SCOPE_GLOBAL), kBug, "flush", "the file image");
  hsize_t size = 0;
  check_hdf5(H5Fget_filesize(state_->file.get(), &size), kBug, "measure", "the file image");
  state_->dataset_properties.close();
  state_->link_properties.close();
  state_->file.close();
  ImageBytes image = state_->memory.take(size);
  state_.reset();
  return image;
}

}  // namespace trainer
