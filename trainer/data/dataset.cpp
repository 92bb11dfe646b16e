#include "trainer/data/dataset.h"

#include <algorithm>

#include "trainer/data/dataset_files.h"
#include "trainer/data/formats.h"

namespace trainer {
namespace {

// 65 and 66 of the codecs become anomalies that on_error governs; I/O errors stay what they are.
template <typename Function>
auto as_sample_error(const Sample& sample, const Function& function) {
  try {
    return function();
  } catch (const SampleError&) {
    throw;
  } catch (const comm::Error& error) {
    if (error.code() == comm::ExitCode::kInputMissing)
      throw SampleError(AnomalyKind::kMissingFile, error.what());
    if (error.code() == comm::ExitCode::kData)
      throw SampleError(AnomalyKind::kUndecodable, error.what());
    throw;
  } catch (const std::invalid_argument& error) {
    throw SampleError(AnomalyKind::kMalformed,
                      fmt::format("{}: {}", trainer::quoted(sample.name), error.what()));
  }
}

void check_size(const Sample& sample, const ImageInfo& info) {
  if (sample.width == 0 || (sample.width == info.width && sample.height == info.height)) return;
  throw SampleError(
      AnomalyKind::kSizeMismatch,
      fmt::format(
          "{}: the file has {}x{} pixels{}, the annotations say {}x{}; correct them",
          trainer::quoted(sample.file), info.width, info.height,
          info.orientation > 1 ? fmt::format(" (EXIF orientation {})", info.orientation) : "",
          sample.width, sample.height));
}

const char* format_fields(DataFormat format) {
  switch (format) {
    case DataFormat::kMnist:
    case DataFormat::kFolders:
      return "a class an image";
    case DataFormat::kMasks:
      return "label maps";
    default:
      return "boxes and label maps";
  }
}

void check_fields(DataFormat format, const Fields& fields) {
  const bool classes = format == DataFormat::kMnist || format == DataFormat::kFolders;
  const bool maps = format == DataFormat::kMasks;
  if ((fields.label && !classes) || (fields.boxes && (classes || maps)) ||
      (fields.label_map && classes))
    comm::fail(comm::ExitCode::kConfig,
               "data.format {} gives {}, the model needs {}; choose another data.format or model",
               to_string(format), format_fields(format),
               fields.label   ? "a class an image"
               : fields.boxes ? "boxes"
                              : "label maps");
}

std::unique_ptr<Dataset> open_format(const FormatInput& input) {
  switch (input.config.format) {
    case DataFormat::kCoco:
      return open_coco(input);
    case DataFormat::kVoc:
      return open_voc(input);
    case DataFormat::kMasks:
      return open_masks(input);
    case DataFormat::kMnist:
      return open_mnist(input);
    case DataFormat::kFolders:
      return open_folders(input);
    case DataFormat::kShapes:
      return open_shapes(input);
  }
  REQUIRE(false, "format {}", static_cast<int>(input.config.format));
  return nullptr;
}

void check_max_boxes(const Dataset& dataset, int max_boxes) {
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const Sample& sample = dataset.sample(i);
    const auto boxes = std::ranges::count_if(sample.objects, &Object::trained);
    if (boxes > max_boxes)
      comm::fail(comm::ExitCode::kData, "{}: {} boxes are more than data.max_boxes {}; raise it",
                 trainer::quoted(sample.name), boxes, max_boxes);
  }
}

}  // namespace

ShrunkImage Dataset::image(std::int64_t index, const NeededSize& needed) const {
  const Sample& sample = this->sample(index);
  return as_sample_error(sample, [&] {
    const std::vector<std::uint8_t> bytes = read_file_bytes(sample.file);
    const EncodedImage encoded = {bytes, sample.file};
    const ImageInfo info = probe_image(encoded);
    check_size(sample, info);
    if (!needed) return ShrunkImage{read_image(encoded), info, 1};
    const Size size = needed({.width = info.width, .height = info.height});
    return read_shrunk_image(encoded, size.width, size.height);
  });
}

LabelImage Dataset::label_map(std::int64_t index) const {
  const Sample& sample = this->sample(index);
  return as_sample_error(sample, [&] {
    LabelImage labels = decode_label_map(index);
    for (const std::uint16_t value : labels.pixels)
      if (value >= num_classes_ && value != ignore_)
        throw SampleError(
            AnomalyKind::kLabelValue,
            fmt::format(
                "{}: the label value {} is neither below the {} classes nor "
                "data.ignore {}; relabel it, or correct data.classes",
                trainer::quoted(sample.label_file.empty() ? sample.name : sample.label_file), value,
                num_classes_, ignore_));
    return labels;
  });
}

LabelImage Dataset::decode_label_map(std::int64_t index) const {
  return read_label_image(sample(index).label_file);
}

std::string Dataset::class_name(int label) const {
  if (label == 0 && has_background_) return "background";
  const auto it = std::ranges::find(class_labels_, label);
  return it == class_labels_.end()
             ? ""
             : class_names_[static_cast<std::size_t>(it - class_labels_.begin())];
}

std::int64_t Dataset::category_id(int label) const {
  const auto it = std::ranges::find(class_labels_, label);
  return it == class_labels_.end()
             ? -1
             : category_ids_[static_cast<std::size_t>(it - class_labels_.begin())];
}

void Dataset::number_classes(std::vector<std::string> names, bool has_background) {
  class_names_ = std::move(names);
  has_background_ = has_background;
  num_classes_ = static_cast<int>(class_names_.size()) + has_background;
  category_ids_.clear();
  class_labels_.clear();
  for (int label = has_background; label < num_classes_; ++label) {
    class_labels_.push_back(label);
    category_ids_.push_back(label);
  }
}

void missing_key(const FormatInput& input, const char* key, const char* what) {
  comm::fail(comm::ExitCode::kConfig, "data.{}.{} is missing: data.format {} needs {}",
             input.split_name, key, to_string(input.config.format), what);
}

std::unique_ptr<Dataset> open_dataset(const DataConfig& config, const OpenOptions& options) {
  check_fields(config.format, options.fields);
  const auto it = config.splits.find(options.split);
  const bool built_in =  // these splits need not be given
      (config.format == DataFormat::kShapes || config.format == DataFormat::kMnist) &&
      (options.split == "train" || options.split == "val" || options.split == "test");
  if (it == config.splits.end() && !built_in)
    comm::fail(comm::ExitCode::kConfig, "data.{} is missing: there is no such split",
               options.split);
  const SplitConfig split = it == config.splits.end() ? SplitConfig() : it->second;
  auto dataset =
      open_format({config, split, options.split, options.fields, options.model_num_classes});
  if (options.enforce)
    dataset->anomalies().enforce(config.on_error == OnError::kSkip, config.skip_limit,
                                 dataset->source());
  if (dataset->size() == 0)
    comm::fail(comm::ExitCode::kData, "{}: the split {} has no image", dataset->source(),
               trainer::quoted(options.split));
  if (options.fields.boxes && config.format != DataFormat::kShapes)
    check_max_boxes(*dataset, config.max_boxes);
  return dataset;
}

void require_same_classes(const Dataset& a, const Dataset& b) {
  const std::size_t common = std::min(a.class_names().size(), b.class_names().size());
  for (std::size_t i = 0; i < common; ++i) {
    const int label_a = a.class_label(i), label_b = b.class_label(i);
    if (a.class_names()[i] != b.class_names()[i] || label_a != label_b)
      comm::fail(comm::ExitCode::kData,
                 "{} numbers class {} as {}, {} numbers class {} as {}; give both the same classes",
                 a.source(), trainer::quoted(a.class_names()[i]), label_a, b.source(),
                 trainer::quoted(b.class_names()[i]), label_b);
  }
  if (a.class_names().size() != b.class_names().size())
    comm::fail(comm::ExitCode::kData, "{} has {} classes, {} has {}; give both the same classes",
               a.source(), a.class_names().size(), b.source(), b.class_names().size());
}

}  // namespace trainer
