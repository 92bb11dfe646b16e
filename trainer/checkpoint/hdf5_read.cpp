#include <hdf5.h>

#include <algorithm>

#include "trainer/checkpoint/hdf5_handle.h"
#include "trainer/checkpoint/hdf5_image.h"
#include "trainer/checkpoint/hdf5_memory.h"
#include "trainer/checkpoint/text.h"
#include "trainer/checkpoint/weights.h"

namespace trainer {
namespace {

constexpr comm::ExitCode kData = comm::ExitCode::kData;

[[noreturn]] void refuse(const std::string& object, const std::string& why) {
  comm::fail(kData, "{} {}", object, why);
}

struct Links {
  std::vector<std::string> names;
  std::string problem;
};

herr_t collect_link(hid_t, const char* name, const H5L_info_t* info, void* out) {
  auto* links = static_cast<Links*>(out);
  if (info->type != H5L_TYPE_HARD) links->problem = quote_text(name) + " is a link, not a dataset";
  if (links->names.size() == kMaxTensors) links->problem = "the file has too many objects";
  if (!links->problem.empty()) return 1;  // stop
  links->names.emplace_back(name);
  return 0;
}

void check_object(hid_t file, const std::string& path) {
  const std::string object = quote_text(path);
  H5O_info_t info;
  check_hdf5(H5Oget_info_by_name2(file, path.c_str(), &info, H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS,
                                  H5P_DEFAULT),
             kData, "examine", object);
  constexpr hsize_t kMaxAttributes = 64;
  if (info.type != H5O_TYPE_DATASET)
    refuse(object, "is a group or a type; expected one dataset a tensor at the root");
  if (info.num_attrs > kMaxAttributes) refuse(object, "has more than 64 attributes");
}

// Layouts and filters that keep the data inside the file and the code inside HDF5.
void check_layout(hid_t dataset, const std::string& object) {
  Hdf5Handle plist(H5Dget_create_plist(dataset), H5Pclose, kData, "examine", object);
  const H5D_layout_t layout = H5Pget_layout(plist.get());
  if (layout != H5D_COMPACT && layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED)
    refuse(object, "is a virtual dataset");
  if (check_hdf5(H5Pget_external_count(plist.get()), kData, "examine", object) != 0)
    refuse(object, "has its data in another file");
  const int num_filters = check_hdf5(H5Pget_nfilters(plist.get()), kData, "examine", object);
  for (int i = 0; i < num_filters; ++i) {
    unsigned flags = 0;
    std::size_t num_values = 0;
    const H5Z_filter_t filter = H5Pget_filter2(plist.get(), static_cast<unsigned>(i), &flags,
                                               &num_values, nullptr, 0, nullptr, nullptr);
    if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
        filter != H5Z_FILTER_FLETCHER32)
      refuse(object, "is compressed by a filter other than deflate; write it without");
  }
  plist.close();
}

ElementType type_of(hid_t type, Trust trust, const std::string& object) {
  const H5T_class_t kind = H5Tget_class(type);
  const std::size_t size = H5Tget_size(type);
  if (trust == Trust::kOwn) {
    if (H5Tequal(type, H5T_IEEE_F32LE) > 0) return ElementType::kFloat32;
    if (H5Tequal(type, H5T_STD_I64LE) > 0) return ElementType::kInt64;
  } else if (H5Tcommitted(type) == 0) {
    if (kind == H5T_FLOAT && (size == 2 || size == 4 || size == 8)) return ElementType::kFloat32;
    if (kind == H5T_INTEGER && size <= 8) return ElementType::kInt64;
  }
  refuse(object, "is neither a floating-point number of 16, 32 or 64 bits nor an integer");
}

std::vector<std::int64_t> shape_of(hid_t space, const std::string& object) {
  if (H5Sget_simple_extent_type(space) == H5S_NULL) refuse(object, "is empty (null dataspace)");
  const int rank = check_hdf5(H5Sget_simple_extent_ndims(space), kData, "examine", object);
  if (rank > kMaxDimensions) refuse(object, fmt::format("has {} dimensions", rank));
  std::vector<hsize_t> dims(static_cast<std::size_t>(rank));
  check_hdf5(H5Sget_simple_extent_dims(space, dims.data(), nullptr), kData, "examine", object);
  return {dims.begin(), dims.end()};
}

// Memory for the tensor, refused where dimensions lie: nothing is stored, or more is claimed than
// the stored bytes can hold (deflate packs at most 1032 to 1).
std::size_t size_of(const std::vector<std::int64_t>& shape, ElementType type, hid_t dataset,
                    const std::string& object) {
  std::size_t num_bytes = element_bytes(type);
  for (const std::int64_t n : shape) {
    if (n < 0 || __builtin_mul_overflow(num_bytes, static_cast<std::size_t>(n), &num_bytes) ||
        num_bytes > kMaxTensorBytes)
      refuse(object, fmt::format("claims more than {} bytes", kMaxTensorBytes));
  }
  const std::size_t stored = H5Dget_storage_size(dataset);
  constexpr std::size_t kMaxRatio = 1032 * 4;  // 16-bit elements become 64 bits wide
  if (num_bytes > 0 && stored == 0) refuse(object, "has no data stored");
  if (num_bytes / kMaxRatio > stored) refuse(object, "claims more data than the file holds");
  return num_bytes;
}

}  // namespace

struct ImageReader::State {
  Trust trust;
  Hdf5Memory memory;
  Hdf5Handle file;

  State(std::span<const std::byte> image, Trust trust)
      : trust(trust), file(open(memory, image), H5Fclose, kData, "open", "the file") {}

  static hid_t open(Hdf5Memory& memory, std::span<const std::byte> image) {
    Hdf5Handle access(memory.properties_for_reading(image), H5Pclose, kData, "create",
                      "file properties");
    const hid_t file = H5Fopen(unique_image_name().c_str(), H5F_ACC_RDONLY, access.get());
    if (file >= 0) access.close();
    return file;
  }
};

ImageReader::ImageReader(std::span<const std::byte> image, Trust trust) {
  prepare_hdf5();
  if (image.empty()) refuse("the file", "is empty");
  state_ = std::make_unique<State>(image, trust);
}

ImageReader::~ImageReader() = default;  // read-only: closing can lose nothing

std::vector<std::string> ImageReader::root_datasets() const {
  Links links;
  hsize_t index = 0;
  check_hdf5(
      H5Literate(state_->file.get(), H5_INDEX_NAME, H5_ITER_INC, &index, collect_link, &links),
      kData, "list", "the root group");
  if (!links.problem.empty()) refuse(links.problem, "and is refused");
  for (const std::string& name : links.names) check_object(state_->file.get(), name);
  std::sort(links.names.begin(), links.names.end());
  return links.names;
}

Array ImageReader::read(const std::string& path) const {
  const std::string object = quote_text(path);
  Hdf5Handle dataset(H5Dopen2(state_->file.get(), path.c_str(), H5P_DEFAULT), H5Dclose, kData,
                     "open", object);
  check_layout(dataset.get(), object);
  Hdf5Handle type(H5Dget_type(dataset.get()), H5Tclose, kData, "examine", object);
  Hdf5Handle space(H5Dget_space(dataset.get()), H5Sclose, kData, "examine", object);
  Array array;
  array.type = type_of(type.get(), state_->trust, object);
  array.shape = shape_of(space.get(), object);
  array.bytes.resize(size_of(array.shape, array.type, dataset.get(), object));
  const hid_t memory_type =
      array.type == ElementType::kFloat32 ? H5T_NATIVE_FLOAT : H5T_NATIVE_INT64;
  if (!array.bytes.empty())
    check_hdf5(
        H5Dread(dataset.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, array.bytes.data()),
        kData, "read", object);
  space.close();
  type.close();
  dataset.close();
  return array;
}

}  // namespace trainer
