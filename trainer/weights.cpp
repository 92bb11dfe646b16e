#include "trainer/weights.h"

#include <fmt/format.h>
#include <omp.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <numbers>
#include <numeric>

#include "comm/parallel.h"
#include "comm/random.h"
#include "models/graph/weight_tiles.h"
#include "trainer/optim/host_mirror.h"

namespace trainer {
namespace {

using models::Initializer;
using models::ParameterSlot;

std::uint64_t fnv1a(const std::string& text) {
  std::uint64_t hash = 0xCBF29CE484222325ull;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return hash;
}

// Box-Muller over two uniforms of one draw, in fp64.
void fill_normal(std::span<float> out, std::uint64_t seed, std::uint64_t stream, double mean,
                 double deviation) {
  const auto draw = [=](std::int64_t pair) {
    const std::size_t i = 2 * static_cast<std::size_t>(pair);
    const auto r = comm::philox(seed, comm::Purpose::kInitialization, stream, 0,
                                static_cast<std::uint32_t>(pair));
    const double u1 = (r.v[0] + 0.5) / 4294967296.0, u2 = (r.v[1] + 0.5) / 4294967296.0;
    const double radius = std::sqrt(-2.0 * std::log(u1)), angle = 2.0 * std::numbers::pi * u2;
    out[i] = static_cast<float>(mean + deviation * radius * std::cos(angle));
    if (i + 1 < out.size()) {
      out[i + 1] = static_cast<float>(mean + deviation * radius * std::sin(angle));
    }
  };
  comm::host_for(omp_get_max_threads(), (std::ssize(out) + 1) / 2, draw, 4096);
}

void fill_uniform(std::span<float> out, std::uint64_t seed, std::uint64_t stream, float low,
                  float high) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto r = comm::philox(seed, comm::Purpose::kInitialization, stream, 0,
                                static_cast<std::uint32_t>(i / 4));
    out[i] = low + (high - low) * comm::uniform(r.v[i % 4]);
  }
}

// Bilinear interpolation of factor f = ceil(k / 2) (Long et al. 2015), the same channel to channel.
void fill_bilinear(std::span<float> out, const models::Shape& shape) {
  const std::int64_t k = shape[3];
  const double factor = static_cast<double>((k + 1) / 2);
  const double center = k % 2 == 1 ? factor - 1 : factor - 0.5;
  std::fill(out.begin(), out.end(), 0.0f);
  for (std::int64_t c = 0; c < std::min(shape[0], shape[1]); ++c) {
    for (std::int64_t y = 0; y < k; ++y) {
      for (std::int64_t x = 0; x < k; ++x) {
        const double v = (1 - std::abs(static_cast<double>(y) - center) / factor) *
                         (1 - std::abs(static_cast<double>(x) - center) / factor);
        out[static_cast<std::size_t>(((c * shape[1] + c) * k + y) * k + x)] = static_cast<float>(v);
      }
    }
  }
}

void fill(std::span<float> out, const models::Parameter& parameter, std::uint64_t seed) {
  const Initializer& init = parameter.initializer;
  const std::uint64_t stream = fnv1a(parameter.name);
  switch (init.rule) {
    case Initializer::Rule::kConstant:
      return std::fill(out.begin(), out.end(), init.a);
    case Initializer::Rule::kNormal:
      return fill_normal(out, seed, stream, init.a, init.b);
    case Initializer::Rule::kUniform:
      return fill_uniform(out, seed, stream, init.a, init.b);
    case Initializer::Rule::kKaimingNormal:
      return fill_normal(out, seed, stream, 0.0, std::sqrt(2.0 / init.a));
    case Initializer::Rule::kBilinear:
      return fill_bilinear(out, parameter.shape);
  }
}

// The parameters as the host writes them. What it does not write stays as it is.
class HostParameters {
 public:
  explicit HostParameters(const models::ParameterStorage& storage)
      : stream_(storage.parameters.device()), mirror_(storage.parameters) {
    mirror_.fetch(stream_);
    stream_.view().synchronize();
  }
  // `fill` writes the tensor in plain order.
  template <typename Fill>
  void write(const ParameterSlot& slot, const Fill& fill) {
    const std::span<float> values = mirror_.as<float>().subspan(
        static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.size));
    if (slot.tile == 1) return fill(values);
    if (plain_.size_bytes() < values.size_bytes()) plain_ = comm::Buffer({}, values.size_bytes());
    const std::span<float> plain = plain_.as<float>().first(values.size());
    fill(plain);
    models::to_tiles(plain, slot.parameter.shape, slot.tile, values);
  }
  void store() const {
    mirror_.store(stream_);
    stream_.view().synchronize();
  }

 private:
  comm::Stream stream_;
  HostMirror mirror_;
  comm::Buffer plain_;  // of a tensor in tiles
};

std::vector<std::int64_t> dimensions(const models::Shape& shape) {
  return {shape.extents.begin(), shape.extents.begin() + shape.rank};
}

std::string text(const std::vector<std::int64_t>& shape) {
  return fmt::format("({})", fmt::join(shape, ", "));
}

// Files written before torchvision 0.14 lack a ".0" in pyramid and head names.
std::string current_name(const std::string& name) {
  for (const char* part : {"inner_blocks.", "layer_blocks.", "head.conv."}) {
    const std::size_t at = name.find(part);
    if (at == std::string::npos) continue;
    const std::size_t digit = at + std::strlen(part);
    const std::size_t dot = name.find('.', digit);
    if (dot != std::string::npos && name.compare(dot, 3, ".0.") != 0) {
      return name.substr(0, dot) + ".0" + name.substr(dot);
    }
  }
  return name;
}

// The layers of torchvision's classifiers that no other model takes over.
bool of_classifier(const std::string& name) {
  return name.starts_with("fc.") || name.starts_with("classifier.");
}

// Where a tensor of torchvision's classifiers goes: to the backbone, and what was VGG16's first two
// linear layers to the convolutions that FCN makes of them (the values lie alike). Empty: nowhere.
std::string backbone_name(const std::string& given, const std::string& prefix,
                          const models::ParameterLayout& layout) {
  for (const auto& [linear, convolution] :
       {std::pair{"classifier.0.", "fc6."}, std::pair{"classifier.3.", "fc7."}}) {
    if (!given.starts_with(linear)) continue;
    const std::string name = convolution + given.substr(std::strlen(linear));
    if (layout.by_name.contains(name)) return name;
  }
  return of_classifier(given) ? "" : prefix + given;
}

std::int64_t num_elements(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

}  // namespace

void initialize(models::ParameterStorage& storage, std::uint64_t seed) {
  HostParameters parameters(storage);
  for (const ParameterSlot& slot : storage.layout->slots) {
    parameters.write(slot, [&](std::span<float> values) { fill(values, slot.parameter, seed); });
  }
  parameters.store();
}

std::vector<std::string> load_weights(models::ParameterStorage& storage, const TensorMap& tensors,
                                      const LoadOptions& options) {
  HostParameters parameters(storage);
  std::vector<std::string> problems;
  std::map<std::string, bool> seen;
  for (const auto& [given, array] : tensors) {
    if (given.ends_with("num_batches_tracked")) continue;
    std::string name =
        options.backbone ? backbone_name(given, options.prefix, *storage.layout) : given;
    if (name.empty()) continue;
    if (!storage.layout->by_name.contains(name)) name = current_name(name);
    const auto found = storage.layout->by_name.find(name);
    if (found == storage.layout->by_name.end()) {
      problems.push_back("unexpected " + given);
      continue;
    }
    seen[name] = true;
    const ParameterSlot& slot = storage.layout->slots[found->second];
    const auto shape = dimensions(slot.parameter.shape);
    const bool becomes_convolution = options.backbone && of_classifier(given);
    const bool fits = becomes_convolution ? num_elements(array.shape) == num_elements(shape)
                                          : array.shape == shape;
    if (!fits || array.type != ElementType::kFloat32) {
      problems.push_back(fmt::format("{}: {} in the file, {} in the model", given,
                                     text(array.shape), text(shape)));
      continue;
    }
    const auto from = array.floats();
    parameters.write(slot, [&](std::span<float> values) {
      std::copy(from.begin(), from.end(), values.begin());
    });
  }
  for (const ParameterSlot& slot : storage.layout->slots) {
    const std::string& name = slot.parameter.name;
    if (options.backbone && (!name.starts_with(options.prefix) || of_classifier(name))) continue;
    if (!seen.contains(name)) problems.push_back("missing " + name);
  }
  if (!problems.empty() && !options.partial) {
    const std::size_t shown = std::min<std::size_t>(problems.size(), 8);
    comm::fail(
        comm::ExitCode::kCheckpointRefused,
        "{}: {} tensors do not fit the model: {}{}; {}", options.source, problems.size(),
        fmt::join(problems.begin(), problems.begin() + static_cast<std::ptrdiff_t>(shown), "; "),
        problems.size() > shown ? "; ..." : "",
        options.initial ? "use --init-partial to load the others"
                        : "give the configuration these weights were trained with");
  }
  parameters.store();
  return problems;
}

void load_state(ShardedOptimizer& optimizer, const models::ParameterLayout& layout,
                const Checkpoint& checkpoint) {
  struct Moved {  // a part of a tensor that was saved in another order
    const ParameterSlot& slot;
    int saved_tile;
    std::vector<float> saved;  // the whole tensor
    std::int64_t begin;
    std::span<float> out;
  };
  std::deque<Moved> moved;
  std::vector<StateRange> ranges;
  optimizer.for_each_state([&](const std::string& state, const std::string& tensor,
                               std::int64_t begin, std::int64_t end, std::span<float> out) {
    const ParameterSlot& slot = layout.slot(tensor);
    const int saved_tile = checkpoint.tile(state, tensor);
    if (saved_tile == slot.tile) return ranges.push_back({state, tensor, begin, end, out});
    const auto size = static_cast<std::size_t>(slot.size);
    Moved& m = moved.emplace_back(slot, saved_tile, std::vector<float>(size), begin, out);
    ranges.push_back({state, tensor, 0, slot.size, m.saved});
  });
  checkpoint.read_state(ranges);
  for (Moved& m : moved) {
    const models::Shape& shape = m.slot.parameter.shape;
    if (!models::fits_tiles(shape, m.saved_tile)) {
      comm::fail(comm::ExitCode::kCheckpointRefused, "state of {} {} was saved in tiles of {}",
                 m.slot.parameter.name, models::to_string(shape), m.saved_tile);
    }
    std::vector<float> plain(m.saved.size());
    models::from_tiles(m.saved, shape, m.saved_tile, plain);
    models::to_tiles(plain, shape, m.slot.tile, m.saved);
    std::copy_n(m.saved.begin() + m.begin, m.out.size(), m.out.begin());
  }
  optimizer.store_states();
}

std::vector<NamedArray> model_arrays(const models::ParameterLayout& layout,
                                     std::span<const std::byte> parameters,
                                     const std::vector<std::string>& counters,
                                     const std::int64_t& step) {
  std::vector<NamedArray> arrays;
  for (const ParameterSlot& slot : layout.slots) {
    const auto bytes = parameters.subspan(static_cast<std::size_t>(slot.offset) * sizeof(float),
                                          static_cast<std::size_t>(slot.size) * sizeof(float));
    NamedArray& array = arrays.emplace_back(slot.parameter.name, dimensions(slot.parameter.shape),
                                            ElementType::kFloat32, bytes);
    if (slot.tile == 1) continue;
    array.write = [bytes, &slot](std::span<float> plain) {
      const std::span tiles(reinterpret_cast<const float*>(bytes.data()), plain.size());
      models::from_tiles(tiles, slot.parameter.shape, slot.tile, plain);
    };
  }
  for (const std::string& counter : counters) {
    arrays.push_back(
        {counter, {}, ElementType::kInt64, std::as_bytes(std::span<const std::int64_t>(&step, 1))});
  }
  return arrays;
}

}  // namespace trainer
