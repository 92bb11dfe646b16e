#include "models/ops/resample.h"

#include <algorithm>

#include "comm/buffer.h"
#include "comm/parallel.h"
#include "models/graph/element.h"

namespace models {
namespace {

// A band where the device can read it.
struct BandView {
  const std::int32_t *first, *begin;
  const float* weight;
  std::int64_t rows;
};

class DeviceBand {
 public:
  DeviceBand(const KernelContext& context, const Band& band)
      : rows_(band.rows()),
        first_(upload(context, band.first)),
        begin_(upload(context, band.begin)),
        weight_(upload(context, band.weight)) {}
  BandView view() const {
    return {first_.as<const std::int32_t>().data(), begin_.as<const std::int32_t>().data(),
            weight_.as<const float>().data(), rows_};
  }

 private:
  template <typename T>
  static comm::Buffer upload(const KernelContext& context, const std::vector<T>& values) {
    comm::Buffer buffer(context.device, values.size() * sizeof(T));
    comm::copy_bytes(context.stream, buffer.bytes(), std::as_bytes(std::span(values)));
    context.stream.synchronize();
    return buffer;
  }
  std::int64_t rows_;
  comm::Buffer first_, begin_, weight_;
};

// Row (plane, i) of to, or its element w = sum over the band's entries of weight times a row of
// from.
template <typename T>
struct Vertical {
  const T* from;
  float* to;
  BandView band;
  std::int64_t height, width;  // of from
  RIDGELINE_HD void operator()(std::int64_t row) const { add(row, 0, width); }
  RIDGELINE_HD void operator()(std::int64_t row, std::int64_t w) const { add(row, w, w + 1); }

  RIDGELINE_HD void add(std::int64_t row, std::int64_t left, std::int64_t right) const {
    const std::int64_t i = row % band.rows, plane = row / band.rows;
    const T* x = from + (plane * height + band.first[i]) * width;
    float* y = to + row * width;
    for (std::int64_t w = left; w < right; ++w) y[w] = 0.0f;
    for (std::int32_t t = band.begin[i]; t < band.begin[i + 1]; ++t, x += width) {
      const float weight = band.weight[t];
      for (std::int64_t w = left; w < right; ++w) y[w] += weight * x[w];
    }
  }
};

// Element (row, i) of to (+)= sum over the band's entries of weight times an element of the row.
template <typename T>
struct Horizontal {
  const float* from;
  T* to;
  BandView band;
  std::int64_t width;  // of from
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t row) const {
    for (std::int64_t i = 0; i < band.rows; ++i) (*this)(row, i);
  }
  RIDGELINE_HD void operator()(std::int64_t row, std::int64_t i) const {
    const float* x = from + row * width + band.first[i];
    const float* weight = band.weight + band.begin[i];
    const std::int32_t entries = band.begin[i + 1] - band.begin[i];
    float sum = 0.0f;
    for (std::int32_t t = 0; t < entries; ++t) sum += weight[t] * x[t];
    T* y = to + row * band.rows + i;
    *y = accumulate ? *y + sum : sum;
  }
};

template <typename T>
class ResampleKernel final : public Kernel {
 public:
  ResampleKernel(const KernelContext& context, const Band& rows, const Band& columns)
      : stream_(context.stream),
        x_(context.inputs[0].shape),
        rows_(context, rows),
        columns_(context, columns),
        rows_back_(context, rows.transposed(x_[2])),
        columns_back_(context, columns.transposed(x_[3])),
        height_(rows.rows()),
        width_(columns.rows()) {}

  // What lies between the two sweeps.
  std::int64_t workspace_bytes() const override {
    return planes() * std::max(height_ * x_[3], x_[2] * width_) *
           static_cast<std::int64_t>(sizeof(float));
  }
  void forward(const KernelArgs& args) override {
    run(args, args.inputs[0], args.outputs[0], {rows_.view(), columns_.view()}, false);
  }
  void backward(const KernelArgs& args) override {
    run(args, args.doutputs[0], args.dinputs[0], {rows_back_.view(), columns_back_.view()},
        args.modes[0] == GradientMode::kAccumulate);
  }

 private:
  struct Bands {
    BandView rows, columns;
  };
  std::int64_t planes() const { return x_[0] * x_[1]; }
  void run(const KernelArgs& args, const Tensor& from, const Tensor& to, const Bands& bands,
           bool accumulate) const {
    const std::int64_t height = from.shape[2], width = from.shape[3];
    auto* between = reinterpret_cast<float*>(args.workspace.data());
    const std::int64_t rows = planes() * bands.rows.rows;
    comm::parallel_for_rows(stream_, rows, width,
                            Vertical<T>{from.as<T>(), between, bands.rows, height, width}, 16);
    comm::parallel_for_rows(stream_, rows, bands.columns.rows,
                            Horizontal<T>{between, to.as<T>(), bands.columns, width, accumulate},
                            16);
  }
  comm::StreamView stream_;
  Shape x_;
  DeviceBand rows_, columns_, rows_back_, columns_back_;
  std::int64_t height_, width_;
};

}  // namespace

void Band::add_row(std::int64_t column, const std::vector<float>& entries) {
  first.push_back(static_cast<std::int32_t>(column));
  weight.insert(weight.end(), entries.begin(), entries.end());
  begin.push_back(static_cast<std::int32_t>(weight.size()));
}

Band Band::transposed(std::int64_t columns) const {
  std::vector<std::int64_t> low(static_cast<std::size_t>(columns), -1);
  std::vector<std::vector<float>> entries(static_cast<std::size_t>(columns));
  for (std::int64_t i = 0; i < rows(); ++i) {
    for (std::int32_t t = begin[i]; t < begin[i + 1]; ++t) {
      const auto column = static_cast<std::size_t>(first[i] + t - begin[i]);
      if (entries[column].empty()) low[column] = i;
      entries[column].resize(static_cast<std::size_t>(i - low[column]), 0.0f);
      entries[column].push_back(weight[t]);
    }
  }
  Band result;
  for (std::size_t c = 0; c < entries.size(); ++c) {
    result.add_row(std::max<std::int64_t>(low[c], 0), entries[c]);
  }
  return result;
}

std::unique_ptr<Kernel> make_resample(const KernelContext& context, const Band& rows,
                                      const Band& columns) {
  return make_kernel<ResampleKernel>(context.outputs[0].type, context, rows, columns);
}

}  // namespace models
