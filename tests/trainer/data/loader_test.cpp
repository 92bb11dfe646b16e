#include "trainer/data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <span>

#include "tests/trainer/data/temp_data.h"

namespace trainer {
namespace {

// Everything the network would read, to compare bit by bit.
struct Copy {
  std::vector<float> image, boxes;
  std::vector<std::int32_t> labels, label_map;
  std::vector<std::int64_t> ids;
  std::int64_t step, micro_batch;
  bool operator==(const Copy&) const = default;
};
Copy copy_of(Batch& batch) {
  const auto image = batch.image_values();
  std::vector<std::int32_t> map;
  if (!batch.label_map.empty())
    map.assign(batch.label_map_values().begin(), batch.label_map_values().end());
  return {{image.begin(), image.end()},
          {batch.boxes.begin(), batch.boxes.end()},
          {batch.labels.begin(), batch.labels.end()},
          map,
          {batch.sample_id.begin(), batch.sample_id.end()},
          batch.step,
          batch.micro_batch};
}

DataConfig shapes_config() {
  DataConfig config;
  config.format = DataFormat::kShapes;
  config.size = {{48, 64}};
  config.max_boxes = 8;
  config.flip = 0.5;
  config.scale = {0.7, 1.5};
  config.shift = 0.1;
  config.splits["train"].limit = 21;
  config.splits["val"].limit = 11;
  return config;
}

class ShapesLoader : public ::testing::Test {
 protected:
  std::unique_ptr<Dataset> open(const std::string& split = "train") {
    return open_dataset(config_, {.split = split, .fields = fields_});
  }
  LoaderOptions options() const {
    return {.fields = fields_, .seed = 5, .batch = 8, .micro_batch = 2};
  }

  DataConfig config_ = shapes_config();
  Fields fields_ = {.boxes = true, .label_map = true};
};

TEST_F(ShapesLoader, SameBitsOnAnyNumberOfThreadsAndRanks) {
  const auto set = open();
  constexpr std::int64_t kSteps = 7;  // more than two epochs
  std::map<std::pair<std::int64_t, std::int64_t>, Copy> expected;
  const auto one = Loader::train(*set, config_, options());
  ASSERT_EQ(one->num_local_micro_batches(), 4);
  for (std::int64_t i = 0; i < kSteps * 4; ++i) {
    Copy copy = copy_of(*one->next());
    expected[{copy.step, copy.micro_batch}] = copy;
  }
  ASSERT_EQ(expected.size(), static_cast<std::size_t>(kSteps * 4));
  for (const int ranks : {1, 2, 3, 4}) {
    for (int rank = 0; rank < ranks; ++rank) {
      LoaderOptions o = options();
      o.rank = rank;
      o.num_ranks = ranks;
      o.threads = 1 + rank * 2;
      o.prefetch = 1 + rank;
      o.first_step = 2;
      const auto loader = Loader::train(*set, config_, o);
      for (std::int64_t i = 0; i < (kSteps - 2) * loader->num_local_micro_batches(); ++i) {
        const Copy copy = copy_of(*loader->next());
        EXPECT_TRUE(copy == (expected[{copy.step, copy.micro_batch}]))
            << ranks << " ranks, step " << copy.step << ", micro-batch " << copy.micro_batch;
      }
    }
  }
}

// What a GPU is given becomes, by its kernel, what a CPU is given; all other fields are the same.
TEST_F(ShapesLoader, PackedImagesBecomeTheSameInput) {
  config_.photometric = 0.4;
  config_.vflip = 0.5;
  const auto set = open();
  LoaderOptions o = options();
  const auto whole = Loader::train(*set, config_, o);
  o.packed = true;
  o.threads = 3;
  const auto packed = Loader::train(*set, config_, o);
  EXPECT_EQ(whole->packed_bytes(), 0u);
  const comm::Stream stream(comm::Device{}, 1);
  for (int i = 0; i < 12; ++i) {
    Batch& batch = *packed->next();
    EXPECT_EQ(batch.packed.size(), packed->packed_bytes());
    EXPECT_TRUE(batch.image.empty());
    Copy expected = copy_of(*whole->next()), got = copy_of(batch);
    got.image.resize(expected.image.size());
    place_images(stream, {batch.packed.data(), batch.packed_stride()},
                 {.data = reinterpret_cast<std::byte*>(got.image.data()),
                  .num = batch.num_images,
                  .channels = batch.channels,
                  .height = batch.height,
                  .width = batch.width});
    EXPECT_TRUE(got == expected) << i;
  }
}

TEST_F(ShapesLoader, EpochsAreAugmentedDifferently) {
  config_.shuffle = false;
  config_.splits["train"].limit = 2;
  const auto set = open();
  LoaderOptions o = options();
  o.batch = o.micro_batch = 2;
  const auto loader = Loader::train(*set, config_, o);
  const Copy first = copy_of(*loader->next()), second = copy_of(*loader->next());
  EXPECT_EQ(first.ids, second.ids);
  EXPECT_NE(first.image, second.image);
}

// Pixels of a class outside of the boxes of that class; boxes are the sample's own, moved.
int pixels_outside(Batch& batch, int n, const Sample& sample) {
  const auto map = batch.label_map_of(n);
  int outside = 0;
  for (int y = 0; y < batch.height; ++y) {
    for (int x = 0; x < batch.width; ++x) {
      const std::int32_t label = map[static_cast<std::size_t>(y * batch.width + x)];
      if (label == 0 || label == 255) continue;
      const bool covered = std::ranges::any_of(sample.objects, [&](const Object& object) {
        const Corners box = to_network(batch.geometry[static_cast<std::size_t>(n)], object.box);
        // Nearest labels are off by less than a pixel of the original, at most 1.5 here.
        return object.label == label && x + 2 >= box[0] && x - 1 <= box[2] && y + 2 >= box[1] &&
               y - 1 <= box[3];
      });
      outside += !covered;
    }
  }
  return outside;
}

TEST_F(ShapesLoader, BoxesAndLabelMapMoveWithTheImage) {
  const auto set = open();
  const auto loader = Loader::train(*set, config_, options());
  int kept = 0, dropped = 0;
  for (int i = 0; i < 40; ++i) {
    Batch& batch = *loader->next();
    for (int n = 0; n < batch.num_images; ++n) {
      const auto at = static_cast<std::size_t>(n);
      const Sample& sample = set->sample(batch.sample_id[at]);
      EXPECT_EQ(pixels_outside(batch, n, sample), 0);
      const std::span rows = std::span(batch.boxes).subspan(at * 32, 32);
      int k = 0;
      for (const Object& object : sample.objects) {
        if (visible_share(batch.geometry[at], object.box) < kMinVisibleShare) {
          ++dropped;
          continue;
        }
        const Corners box = to_network(batch.geometry[at], object.box);
        for (std::size_t c = 0; c < 4; ++c)
          EXPECT_FLOAT_EQ(rows[static_cast<std::size_t>(4 * k) + c], static_cast<float>(box[c]));
        EXPECT_EQ(batch.labels[at * 8 + static_cast<std::size_t>(k)], object.label);
        ++k;
      }
      EXPECT_EQ(batch.count[at], k);
      kept += k;
    }
  }
  EXPECT_GT(kept, dropped);
  EXPECT_GT(dropped, 0);
}

TEST_F(ShapesLoader, OnlyDeclaredFieldsAreFilled) {
  fields_ = {.boxes = true};
  const auto set = open();
  const auto loader = Loader::train(*set, config_, options());
  const Batch& batch = *loader->next();
  EXPECT_TRUE(batch.label_map.empty());
  EXPECT_TRUE(batch.label.empty());
  EXPECT_EQ(batch.boxes.size(), 2u * 8 * 4);
  EXPECT_EQ(batch.image.size(), 2u * 3 * 48 * 64);
  EXPECT_EQ(batch.original_size[0], 48);
  EXPECT_EQ(batch.original_size[1], 64);
}

TEST_F(ShapesLoader, BuffersAreReused) {
  const auto set = open();
  LoaderOptions o = options();
  o.prefetch = 2;
  const auto loader = Loader::train(*set, config_, o);
  std::set<const float*> buffers;
  for (int i = 0; i < 30; ++i) buffers.insert(loader->next()->image.data());
  EXPECT_EQ(buffers.size(), 3u);
}

TEST_F(ShapesLoader, AgainGivesTheSameMicroBatches) {
  const auto set = open();
  LoaderOptions o = options();
  o.rank = 1;
  o.num_ranks = 2;
  const auto loader = Loader::train(*set, config_, o);
  std::vector<Copy> copies;
  for (int i = 0; i < 6; ++i) copies.push_back(copy_of(*loader->next()));  // three steps of two
  const auto again = loader->again(1);
  for (std::size_t i = 2; i < 6; ++i) EXPECT_EQ(copy_of(*again->next()), copies[i]) << i;
}

TEST_F(ShapesLoader, EvaluationShowsEveryImageOnceOnAnyRankCount) {
  const auto set = open("val");
  std::map<std::int64_t, std::vector<float>> expected;
  for (const int ranks : {1, 2, 3, 8}) {
    std::multiset<std::int64_t> seen;
    for (int rank = 0; rank < ranks; ++rank) {
      LoaderOptions o = options();
      o.rank = rank;
      o.num_ranks = ranks;
      o.threads = 2;
      const auto loader = Loader::evaluate(*set, config_, o);
      while (Batch* batch = loader->next()) {
        for (int n = 0; n < batch->num_images; ++n) {
          const std::int64_t id = batch->sample_id[static_cast<std::size_t>(n)];
          const auto image = batch->image_of(n);
          if (n >= batch->valid) {
            EXPECT_EQ(id, -1);
            EXPECT_EQ(image[0], 0);
            EXPECT_EQ(batch->label_map_of(n)[0], set->ignore());
            continue;
          }
          seen.insert(id);
          std::vector<float> pixels(image.begin(), image.end());
          if (ranks == 1)
            expected[id] = pixels;
          else
            EXPECT_EQ(expected[id], pixels);
        }
      }
      EXPECT_EQ(loader->next(), nullptr);
    }
    EXPECT_EQ(seen.size(), 11u) << ranks;
    EXPECT_EQ(std::set(seen.begin(), seen.end()).size(), 11u);
  }
}

TEST_F(ShapesLoader, SeveralBucketsShareAStep) {
  config_.size = {{32, 64}, {64, 32}};
  const auto set = open();
  std::vector<int> buckets;
  for (const int rank : {0, 1}) {
    LoaderOptions o = options();
    o.rank = rank;
    o.num_ranks = 2;
    const auto loader = Loader::train(*set, config_, o);
    for (int i = 0; i < 12; ++i) {
      const Batch& batch = *loader->next();
      if (rank == 0)
        buckets.push_back(batch.bucket);
      else
        EXPECT_EQ(batch.bucket, buckets[static_cast<std::size_t>(i)]);
      EXPECT_EQ(batch.width, batch.bucket == 0 ? 64 : 32);
      for (const Geometry& geometry : batch.geometry)
        EXPECT_EQ(geometry.original_w, batch.bucket == 0 ? 64 : 32);
    }
  }
  EXPECT_EQ(std::set(buckets.begin(), buckets.end()).size(), 2u);
}

TEST_F(ShapesLoader, StopsCleanlyAtAnyMoment) {
  const auto set = open();
  for (int i = 0; i < 20; ++i) {
    LoaderOptions o = options();
    o.threads = 3;
    const auto loader = Loader::train(*set, config_, o);
    for (int k = 0; k < i % 4; ++k) loader->next();
  }
}

// Gray levels tell which image it is; 'bad' ones can't be decoded.
class MasksLoader : public ::testing::Test {
 protected:
  static constexpr int kImages = 10;
  void SetUp() override {
    for (int i = 0; i < kImages; ++i) {
      data_.write_image(fmt::format("images/{}.png", i), 16, 16, 10 * i);
      data_.write_labels(fmt::format("labels/{}.png", i), {16, 16}, 0, 1);
    }
    config_ = data_.config(DataFormat::kMasks);
    config_.size = {{16, 16}};
    config_.classes = {"thing"};
    config_.mean = {0};
    config_.std = {1};
    config_.splits["train"] = {.images = "images", .labels = "labels"};
    set_ = open_dataset(config_, {.fields = fields_});
  }
  LoaderOptions options(int threads = 2) const {
    return {.fields = fields_, .seed = 1, .batch = 5, .micro_batch = 1, .threads = threads};
  }
  void spoil(int i) { data_.write(fmt::format("images/{}.png", i), "no picture"); }

  TempData data_;
  DataConfig config_;
  Fields fields_ = {.label_map = true};
  std::unique_ptr<Dataset> set_;
};

TEST_F(MasksLoader, ImageAndIdBelongTogether) {
  const auto loader = Loader::train(*set_, config_, options());
  for (int i = 0; i < 20; ++i) {
    Batch& batch = *loader->next();
    EXPECT_FLOAT_EQ(batch.image_of(0)[17], static_cast<float>(batch.sample_id[0] * 10) / 255);
    EXPECT_EQ(batch.label_map_of(0)[0], 0);
    EXPECT_EQ(batch.label_map_of(0)[15], 1);
  }
}

TEST_F(MasksLoader, PixelsAndLabelsMoveTogether) {
  Image image = {16, 16, {}};  // white where the label image says 1
  for (int i = 0; i < 16 * 16; ++i) image.rgb.insert(image.rgb.end(), 3, i % 16 < 8 ? 0 : 255);
  for (int i = 0; i < kImages; ++i) write_png(data_.path(fmt::format("images/{}.png", i)), image);
  config_.flip = config_.vflip = 0.5;
  config_.scale = {0.5, 2};
  config_.shift = 0.3;
  for (const Resize resize : {Resize::kFit, Resize::kCrop}) {
    config_.resize = resize;
    const auto loader = Loader::train(*set_, config_, options());
    int white = 0, black = 0;
    for (int i = 0; i < 60; ++i) {
      Batch& batch = *loader->next();
      const auto pixels = batch.image_of(0);
      const auto map = batch.label_map_of(0);
      for (std::size_t k = 0; k < map.size(); ++k) {
        EXPECT_TRUE(map[k] != 255 || pixels[k] == 0);  // padding
        EXPECT_TRUE(pixels[k] <= 0.99f || map[k] == 1);
        EXPECT_TRUE(pixels[k] >= 0.01f || map[k] != 1);
        white += map[k] == 1;
        black += map[k] == 0;
      }
    }
    EXPECT_GT(white, 1000);
    EXPECT_GT(black, 1000);
  }
}

TEST_F(MasksLoader, StopCarriesTheErrorAtTheSameMicroBatch) {
  spoil(4);
  std::set<int> places;
  for (const int threads : {1, 2, 5}) {
    const auto loader = Loader::train(*set_, config_, options(threads));
    int place = 0;
    const Thrown thrown = thrown_by([&] {
      for (; place < 10; ++place) loader->next();
    });
    EXPECT_EQ(thrown.code, 65);
    EXPECT_NE(thrown.message.find("4.png"), std::string::npos) << thrown.message;
    places.insert(place);
    EXPECT_EQ(loader->next(), nullptr);
  }
  EXPECT_EQ(places.size(), 1u);
}

TEST_F(MasksLoader, FileGoneDuringTheRun) {
  std::filesystem::remove(data_.path("labels/7.png"));
  const auto loader = Loader::train(*set_, config_, options());
  EXPECT_EQ(thrown_by([&] {
              for (int i = 0; i < 10; ++i) loader->next();
            }).code,
            66);
}

TEST_F(MasksLoader, SkipReplacesTheSameWayOnAnyRankCount) {
  spoil(4);
  data_.write_labels("labels/5.png", {16, 16}, 0, 9);  // outside of the classes
  data_.write_labels("labels/9.png", {8, 16}, 0, 1);   // another size
  config_.on_error = OnError::kSkip;
  config_.skip_limit = 3;
  std::vector<std::int64_t> expected;
  for (const int ranks : {1, 2, 5}) {
    std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> ids;
    std::set<std::int64_t> skipped;
    for (int rank = 0; rank < ranks; ++rank) {
      LoaderOptions o = options();
      o.rank = rank;
      o.num_ranks = ranks;
      const auto loader = Loader::train(*set_, config_, o);
      for (std::int64_t i = 0; i < 4 * loader->num_local_micro_batches(); ++i) {
        const Batch& batch = *loader->next();
        ids[{batch.step, batch.micro_batch}] = batch.sample_id[0];
      }
      skipped.insert(loader->skipped_ids().begin(), loader->skipped_ids().end());
      EXPECT_EQ(loader->left_out().size(), loader->skipped_ids().size());
    }
    EXPECT_EQ(skipped, (std::set<std::int64_t>{4, 5, 9}));
    std::vector<std::int64_t> order;
    std::map<std::int64_t, int> counts;
    for (const auto& [key, id] : ids) {
      order.push_back(id);
      ++counts[id];
    }
    if (ranks == 1) expected = order;
    EXPECT_EQ(order, expected);
    EXPECT_EQ(counts[6], 2 * 3);  // itself and for 4 and 5, in two epochs
    EXPECT_EQ(counts[0], 2 * 2);  // itself and for 9
    EXPECT_FALSE(counts.contains(4));
  }
}

TEST_F(MasksLoader, SkipEndsBeyondTheLimit) {
  for (const int i : {2, 3, 8}) spoil(i);
  config_.on_error = OnError::kSkip;
  config_.skip_limit = 2;
  const auto loader = Loader::train(*set_, config_, options());
  const Thrown thrown = thrown_by([&] {
    for (int i = 0; i < 10; ++i) loader->next();
  });
  EXPECT_EQ(thrown.code, 65);
  EXPECT_NE(thrown.message.find("skip_limit 2"), std::string::npos) << thrown.message;
}

TEST_F(MasksLoader, NothingReadableIsNoEndlessLoop) {
  for (int i = 0; i < kImages; ++i) spoil(i);
  config_.on_error = OnError::kSkip;
  const auto loader = Loader::train(*set_, config_, options());
  EXPECT_EQ(thrown_by([&] { loader->next(); }).code, 65);
}

TEST_F(MasksLoader, EvaluationLeavesOutWhatItCannotRead) {
  spoil(4);
  config_.on_error = OnError::kSkip;
  LoaderOptions o = options();
  o.micro_batch = 4;
  const auto loader = Loader::evaluate(*set_, config_, o);
  std::set<std::int64_t> seen;
  while (const Batch* batch = loader->next())
    for (const std::int64_t id : batch->sample_id)
      if (id >= 0) seen.insert(id);
  EXPECT_EQ(seen, (std::set<std::int64_t>{0, 1, 2, 3, 5, 6, 7, 8, 9}));
  ASSERT_EQ(loader->left_out().size(), 1u);
  EXPECT_EQ(loader->left_out()[0].sample, 4);
  EXPECT_NE(loader->left_out()[0].message.find("4.png"), std::string::npos);
}

TEST_F(MasksLoader, ResizeNoneRefusesOtherSizes) {
  data_.write_image("images/3.png", 16, 15);
  data_.write_labels("labels/3.png", {16, 15}, 0, 1);
  config_.resize = Resize::kNone;
  const auto loader = Loader::evaluate(*set_, config_, options());
  const Thrown thrown = thrown_by([&] {
    while (loader->next()) {
    }
  });
  EXPECT_EQ(thrown.code, 65);
  EXPECT_NE(thrown.message.find("3.png"), std::string::npos) << thrown.message;
}

}  // namespace
}  // namespace trainer
