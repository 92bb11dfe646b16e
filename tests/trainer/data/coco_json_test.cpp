#include "trainer/data/coco_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>

#include "comm/error.h"
#include "trainer/data/coco_eval_input.h"
#include "trainer/data/detections_json.h"

namespace trainer {
namespace {

using testing::HasSubstr;

std::filesystem::path write(const std::string& text) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const auto path =
      std::filesystem::path(testing::TempDir()) / (std::string(test->name()) + ".json");
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

// An annotation file of one image and category around the given annotations.
std::string file_of(const std::string& annotations) {
  return R"({"info": {"year": [2017, {}]}, "images": [{"id": 1, "file_name": "a.jpg", )"
         R"("height": 4, "width": 5, "license": 3}], "annotations": [)" +
         annotations + R"(], "categories": [{"id": 3, "name": "cat", "supercategory": "x"}]})";
}

CocoAnnotation read_one(const std::string& annotation) {
  return read_coco_annotations(write(file_of(annotation))).annotations.at(0);
}

template <typename Read>
void expect_error(Read read, comm::ExitCode code, const std::string& part) {
  try {
    read();
    ADD_FAILURE() << "no error; expected: " << part;
  } catch (const comm::Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code));
    EXPECT_THAT(error.what(), HasSubstr(part));
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
}

void expect_bad_file(const std::string& text, const std::string& part) {
  expect_error([&] { read_coco_annotations(write(text)); }, comm::ExitCode::kData, part);
}

void expect_bad_annotation(const std::string& annotation, const std::string& part) {
  expect_bad_file(file_of(annotation), part);
}

void expect_bad_detections(const std::string& text, const std::string& part) {
  expect_error([&] { read_coco_detections(write(text)); }, comm::ExitCode::kData, part);
}

TEST(CocoJson, ReadsEveryMember) {
  const CocoAnnotations coco = read_coco_annotations(write(
      "\xef\xbb\xbf" + file_of(R"({"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2.5, 3, 4],
                 "area": 6.25, "iscrowd": 1, "ignore": 0, "keypoints": [[1], {"id": 9}],
                 "segmentation": [[0, 0, 1.5, 0, 1, 1], [2, 2, 3, 2, 3, 3]]})")));
  ASSERT_EQ(coco.images.size(), 1u);
  EXPECT_EQ(coco.images[0].file_name, "a.jpg");
  EXPECT_EQ(coco.images[0].height, 4);
  EXPECT_EQ(coco.images[0].width, 5);
  ASSERT_EQ(coco.categories.size(), 1u);
  EXPECT_EQ(coco.categories[0].id, 3);
  EXPECT_EQ(coco.categories[0].name, "cat");
  ASSERT_EQ(coco.annotations.size(), 1u);
  const CocoAnnotation& annotation = coco.annotations[0];
  EXPECT_EQ(annotation.id, 7);
  EXPECT_EQ(annotation.bbox, (std::array<double, 4>{1, 2.5, 3, 4}));
  EXPECT_TRUE(annotation.has_valid_bbox());
  EXPECT_EQ(annotation.area, 6.25);
  EXPECT_TRUE(annotation.is_crowd);
  EXPECT_FALSE(annotation.ignore);
  EXPECT_EQ(std::get<Polygons>(annotation.segmentation),
            (Polygons{{0, 0, 1.5, 0, 1, 1}, {2, 2, 3, 2, 3, 3}}));
}

TEST(CocoJson, BothFormsOfRle) {
  const std::string head = R"({"id": 1, "image_id": 1, "category_id": 3, "segmentation": )";
  const auto plain = read_one(head + R"({"counts": [2, 3, 15], "size": [4, 5]}})").segmentation;
  EXPECT_EQ(std::get<UncompressedRle>(plain).counts, (std::vector<std::int64_t>{2, 3, 15}));
  EXPECT_EQ(to_rle(plain, 4, 5).counts, (std::vector<std::uint32_t>{2, 3, 15}));
  const auto text = read_one(head + R"({"size": [4, 5], "counts": "23?"}})").segmentation;
  EXPECT_EQ(std::get<CompressedRle>(text).counts, "23?");
  EXPECT_EQ(to_rle(text, 4, 5), to_rle(plain, 4, 5));
  EXPECT_THROW(to_rle(text, 5, 4), std::invalid_argument);
  for (const char* none : {"[]", "null"}) {
    const auto empty = read_one(head + none + "}").segmentation;
    EXPECT_TRUE(std::holds_alternative<std::monostate>(empty));
    EXPECT_THROW(to_rle(empty, 4, 5), std::invalid_argument);
  }
}

TEST(CocoJson, SegmentationsCanBeSkipped) {
  const auto path = write(file_of(R"({"id": 1, "image_id": 1, "category_id": 3,
      "segmentation": [[0, "x", {"a": []}]], "area": 2}, {"id": 2, "image_id": 1, "category_id": 3,
      "segmentation": {"counts": 5}})"));
  const CocoAnnotations coco = read_coco_annotations(path, {.segmentations = false});
  ASSERT_EQ(coco.annotations.size(), 2u);
  EXPECT_EQ(coco.annotations[0].area, 2);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(coco.annotations[0].segmentation));
}

TEST(CocoJson, MissingMembersHaveDefaults) {
  const CocoAnnotation annotation = read_one(R"({"id": 1, "image_id": 1, "category_id": 3})");
  EXPECT_EQ(annotation.num_bbox_values, -1);
  EXPECT_FALSE(annotation.has_valid_bbox());
  EXPECT_TRUE(std::isnan(annotation.area));
  EXPECT_FALSE(annotation.is_crowd);
}

TEST(CocoJson, MalformedBoxesAreKeptForTheCaller) {
  const auto box = [](const std::string& value) {
    return read_one(R"({"id": 1, "image_id": 1, "category_id": 3, "bbox": )" + value + "}");
  };
  EXPECT_EQ(box("[1, 2, 3]").num_bbox_values, 3);
  EXPECT_EQ(box("[1, 2, 3, 4, 5]").num_bbox_values, 5);
  EXPECT_EQ(box("null").num_bbox_values, 0);
  EXPECT_EQ(box("{\"x\": 1}").num_bbox_values, 0);
  for (const char* value : {"[1, 2, 3, NaN]", "[1, 2, -3, 4]", "[1, null, 3, 4]",
                            "[1, \"2\", 3, 4]", "[1, [2], 3, 4]", "[1, 2, 3, Infinity]"}) {
    EXPECT_EQ(box(value).num_bbox_values, 4) << value;
    EXPECT_FALSE(box(value).has_valid_bbox()) << value;
  }
}

TEST(CocoJson, DuplicateAndUnknownIdsAreKeptForTheCaller) {
  const std::string one = R"({"id": 1, "image_id": 99, "category_id": 98})";
  EXPECT_EQ(read_coco_annotations(write(file_of(one + "," + one))).annotations.size(), 2u);
}

TEST(CocoJson, HarmlessFormsOfIds) {
  const CocoAnnotation annotation =
      read_one(R"({"id": 9007199254740993, "image_id": "12", "category_id": 3.0})");
  EXPECT_EQ(annotation.id, 9007199254740993);
  EXPECT_EQ(annotation.image_id, 12);
  EXPECT_EQ(annotation.category_id, 3);
}

TEST(CocoJson, WrongTypesNameEntryAndValue) {
  const std::string ids = R"("id": 7, "image_id": 1, "category_id": 3, )";
  const auto bad = [&](const std::string& member, const std::string& part) {
    expect_bad_annotation("{" + ids + member + "}", "annotation 7: ");
    expect_bad_annotation("{" + ids + member + "}", part);
  };
  bad(R"("area": "big")", R"("area" is 'big', not a number)");
  bad(R"("area": [])", R"("area" is a list)");
  bad(R"("iscrowd": 2)", R"("iscrowd" is 2, not 0 or 1)");
  bad(R"("iscrowd": null)", R"("iscrowd" is null)");
  bad(R"("segmentation": "m")", R"("segmentation" is 'm')");
  bad(R"("segmentation": [1, 2])", R"("segmentation" is 1, not a list of polygons)");
  bad(R"("segmentation": [[1, "2"]])", R"(holds '2', not a number)");
  bad(R"("segmentation": [{"size": [1, 1]}])", "list of objects");
  bad(R"("segmentation": {"counts": [1]})", R"("size" of "segmentation" is not)");
  bad(R"("segmentation": {"size": [1, 1]})", R"(no "counts")");
  bad(R"("segmentation": {"size": [1, 1], "counts": 5})", R"("counts" of "segmentation" is 5)");
  bad(R"("segmentation": {"size": [1, 1], "counts": [0.5]})", "holds 0.5, not a whole number");
  bad(R"("segmentation": {"size": [1, 1], "counts": [[]]})", "a list in place of a number");
  expect_bad_annotation(R"({"image_id": 1, "category_id": 3})", "annotation number 0");
  expect_bad_annotation(R"({"id": 5, "category_id": 3})", "annotation 5: \"image_id\" is missing");
  expect_bad_annotation(R"({"id": 5, "image_id": 1})", "annotation 5: \"category_id\" is missing");
  expect_bad_annotation(R"({"id": "x\u0007", "image_id": 1, "category_id": 3})",
                        R"("id" is 'x\x07')");
  expect_bad_annotation(R"({"id": 1.5, "image_id": 1, "category_id": 3})", "\"id\" is 1.5");
  expect_bad_annotation("[1]", "annotation number 0 (from 0): it is a list");
  expect_bad_annotation("17", "it is 17, not an object");
}

TEST(CocoJson, BadImagesAndCategories) {
  const auto file = [](const std::string& image, const std::string& category) {
    return R"({"images": [)" + image + R"(], "annotations": [], "categories": [)" + category + "]}";
  };
  expect_bad_file(file(R"({"id": 1, "width": 0.5})", ""), "image 1: \"width\" is 0.5");
  expect_bad_file(file(R"({"id": 1, "height": -4})", ""), "image 1: \"height\" is -4");
  expect_bad_file(file(R"({"id": 1, "file_name": 5})", ""), "image 1: \"file_name\" is 5");
  expect_bad_file(file(R"({"file_name": "a"})", ""), "image number 0");
  expect_bad_file(file("", R"({"id": 1, "name": null})"), "category 1: \"name\" is null");
  EXPECT_EQ(read_coco_annotations(write(file("", ""))).images.size(), 0u);
}

TEST(CocoJson, OtherFilesAreRefused) {
  const auto missing = std::filesystem::path(testing::TempDir()) / "no such file.json";
  expect_error([&] { read_coco_annotations(missing); }, comm::ExitCode::kInputMissing,
               "no such file.json");
  expect_error([&] { read_coco_annotations(testing::TempDir()); }, comm::ExitCode::kInputMissing,
               "is a directory");
  expect_bad_file("", "no valid JSON at byte 0");
  expect_bad_file(file_of("").substr(0, 60), "no valid JSON at byte 60");
  expect_bad_file(file_of("") + "x", "no valid JSON");
  expect_bad_file("[]", "a results file?");
  expect_bad_file("5", "is 5, not a COCO file");
  expect_bad_file("{}", "no list \"images\"");
  expect_bad_file(R"({"images": [], "annotations": []})", "no list \"categories\"");
  expect_bad_file(R"({"images": {}})", "\"images\" is an object");
  expect_bad_file(R"({"images": null})", "\"images\" is null");
  expect_bad_file(R"({"images": [], "images": []})", "\"images\" twice");
}

TEST(CocoJson, DeepNestingDoesNotExhaustTheStack) {
  expect_bad_file(R"({"x": )" + std::string(3'000'000, '['), "no valid JSON");
}

TEST(DetectionsJson, ReadsBoxesAndMasks) {
  const auto detections = read_coco_detections(write(
      R"([{"image_id": 1, "category_id": 3, "bbox": [0.1, 2, 3, 4], "score": 0.236, "id": "any",
           "area": "any"},
          {"image_id": "2", "category_id": 3, "score": 1, "bbox": [],
           "segmentation": {"size": [4, 5], "counts": "23?"}}])"));
  ASSERT_EQ(detections.size(), 2u);
  EXPECT_TRUE(detections[0].has_bbox);
  EXPECT_EQ(detections[0].bbox[0], 0.1);
  EXPECT_EQ(detections[0].score, 0.236);
  EXPECT_FALSE(detections[1].has_bbox);
  EXPECT_EQ(detections[1].image_id, 2);
  EXPECT_TRUE(std::holds_alternative<CompressedRle>(detections[1].segmentation));
  EXPECT_TRUE(read_coco_detections(write("[]")).empty());
}

TEST(DetectionsJson, AcceptsThemInsideAnObject) {
  const auto path = write(R"({"images": [{"id": null, "width": "x"}], "annotations":
      [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]})");
  EXPECT_EQ(read_coco_detections(path).size(), 1u);
}

TEST(DetectionsJson, RefusesIncompleteOnes) {
  const std::string good =
      R"({"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1}, )";
  const auto bad = [&](const std::string& members, const std::string& part) {
    expect_bad_detections("[" + good + "{" + members + "}]", part);
  };
  bad(R"("category_id": 3, "bbox": [1, 2, 3, 4], "score": 1)", "\"image_id\" is missing");
  bad(R"("image_id": 1, "bbox": [1, 2, 3, 4], "score": 1)", "\"category_id\" is missing");
  bad(R"("image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4])", "\"score\" is missing");
  bad(R"("image_id": 1, "category_id": 3, "score": 1)", "neither a bbox nor");
  bad(R"("image_id": 1, "category_id": 3, "score": NaN, "bbox": [1, 2, 3, 4])", "finite number");
  bad(R"("image_id": 1, "category_id": 3, "score": "1", "bbox": [1, 2, 3, 4])", "\"score\" is '1'");
  bad(R"("image_id": 1, "category_id": 3, "score": 1, "bbox": [1, 2, 3])", "four values");
  bad(R"("image_id": 1, "category_id": 3, "score": 1, "bbox": [1, 2, 3, null])",
      "no finite number");
  expect_bad_detections(R"({"images": []})", "neither a list of detections");
}

TEST(DetectionsJson, RoundTripKeepsEveryBit) {
  const std::vector<CocoDetection> detections = {
      {1, 3, true, {0.1, 1.0 / 3, 1e-300, 12345678.9}, 2.0 / 3, {}},
      {2, 3, false, {}, 1, CompressedRle{4, 5, "23?"}},
      {3, 3, true, {1, 2, 3, 4}, 0.5, Polygons{{0, 0, 1.1, 0, 1, 1}}},
      {4, 3, false, {}, 1, UncompressedRle{4, 5, {2, 3, 15}}}};
  const std::string text = coco_detections_json(detections);
  const auto again = read_coco_detections(write(text));
  ASSERT_EQ(again.size(), detections.size());
  EXPECT_EQ(again[0].bbox, detections[0].bbox);
  EXPECT_EQ(again[0].score, detections[0].score);
  EXPECT_EQ(std::get<Polygons>(again[2].segmentation)[0][2], 1.1);
  EXPECT_EQ(std::get<CompressedRle>(again[3].segmentation).counts, "23?");
  EXPECT_EQ(coco_detections_json(again), text);
  EXPECT_EQ(read_coco_detections(write(coco_detections_json({}))).size(), 0u);
  const std::vector<CocoDetection> broken = {{1, 3, true, {0, 0, 1, NAN}, 0.5, {}}};
  EXPECT_THROW(coco_detections_json(broken), comm::Error);
}

CocoAnnotations one_object() {
  CocoAnnotations coco;
  coco.images = {{1, "a.jpg", 20, 10}};
  coco.categories = {{3, "cat"}, {2, ""}};
  CocoAnnotation annotation{.id = 7, .image_id = 1, .category_id = 3};
  annotation.bbox = {1, 2, 4, 5};
  annotation.num_bbox_values = 4;
  coco.annotations = {annotation};
  return coco;
}

TEST(CocoEvalInput, FillsInWhatFilesLeaveOut) {
  const CocoEvalData data =
      coco_eval_data(one_object(), {{1, 3, true, {1, 2, 4, 5}, 0.5, {}}}, IouType::kBox);
  EXPECT_EQ(data.category_ids, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(data.category_names, (std::vector<std::string>{"2", "cat"}));
  EXPECT_EQ(data.objects.at(0).area, 20);
  EXPECT_EQ(data.detections.at(0).area, 20);
}

TEST(CocoEvalInput, MasksAndBoxesStandInForEachOther) {
  CocoAnnotations coco = one_object();
  coco.annotations[0].segmentation = Polygons{{1, 2, 5, 2, 5, 7, 1, 7}};
  const Rle square = rle_from_box({1, 2, 4, 5}, 10, 20);
  const std::vector<CocoDetection> detections = {
      {1, 3, true, {1, 2, 4, 5}, 0.5, {}},
      {1, 3, false, {}, 0.5, CompressedRle{10, 20, rle_to_string(square)}}};
  const CocoEvalData masks = coco_eval_data(coco, detections, IouType::kMask);
  EXPECT_EQ(masks.objects[0].mask, square);
  EXPECT_EQ(masks.objects[0].area, 20);
  EXPECT_EQ(masks.detections[0].mask, square);
  EXPECT_EQ(masks.detections[1].mask, square);
  EXPECT_EQ(masks.detections[1].area, 20);
  const CocoEvalData boxes = coco_eval_data(coco, detections, IouType::kBox);
  EXPECT_EQ(boxes.detections[1].box, (std::array<double, 4>{1, 2, 4, 5}));
}

TEST(CocoEvalInput, RefusesWhatDoesNotFit) {
  using Change = std::function<void(CocoAnnotations&)>;
  const auto bad = [](const Change& change, IouType type, const std::string& part) {
    CocoAnnotations coco = one_object();
    change(coco);
    expect_error([&] { coco_eval_data(coco, {}, type); }, comm::ExitCode::kData, part);
  };
  bad(
      [](auto& c) {
        c.images.push_back({1, "b", 1, 1});
      },
      IouType::kBox, "image id 1 occurs twice");
  bad(
      [](auto& c) {
        c.categories.push_back({3, "b"});
      },
      IouType::kBox, "category id 3 occurs twice");
  bad([](auto& c) { c.annotations.push_back(c.annotations[0]); }, IouType::kBox,
      "annotation id 7 occurs twice");
  bad([](auto& c) { c.annotations[0].image_id = 5; }, IouType::kBox, "annotation 7: image id 5");
  bad([](auto& c) { c.annotations[0].category_id = 5; }, IouType::kBox, "category id 5");
  bad([](auto& c) { c.annotations[0].bbox[2] = -1; }, IouType::kBox,
      "annotation 7: bbox [1, 2, -1");
  bad([](auto&) {}, IouType::kMask, "annotation 7: segmentation: no mask");
  bad(
      [](auto& c) {
        c.annotations[0].segmentation = CompressedRle{4, 5, "23?"};
      },
      IouType::kMask, "mask of 4 x 5 pixels for an image of 10 x 20");
  const auto bad_detection = [](const CocoDetection& detection, const std::string& part) {
    expect_error([&] { coco_eval_data(one_object(), {detection}, IouType::kBox); },
                 comm::ExitCode::kData, "detection number 0 (from 0): " + part);
  };
  bad_detection({9, 3, true, {1, 1, 1, 1}, 1, {}}, "image id 9");
  bad_detection({1, 9, true, {1, 1, 1, 1}, 1, {}}, "category id 9");
  bad_detection({1, 3, true, {1, 1, -1, 1}, 1, {}}, "bbox [1, 1, -1, 1] has a negative size");
  bad_detection({1, 3, false, {}, 1, CompressedRle{10, 20, "!"}}, "segmentation: RLE string");
}

}  // namespace
}  // namespace trainer
