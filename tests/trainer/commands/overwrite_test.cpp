#include "trainer/commands/overwrite.h"

#include <gmock/gmock.h>

#include <fstream>

#include "comm/error.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/commands/json_writer.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class Overwrite : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_ / "data/more");
    for (const char* name : {"data/a.png", "data/b.txt"}) std::ofstream(folder_ / name) << name;
    fs::create_directory_symlink(folder_ / "data", folder_ / "link");
  }
  std::string refusal(const std::string& input, const std::string& output) const {
    try {
      refuse_to_overwrite({folder_ / "data/b.txt", folder_ / input}, {folder_ / output});
      return "";
    } catch (const comm::Error& e) {
      EXPECT_EQ(e.code(), comm::ExitCode::kUsage);
      return e.what();
    }
  }
  ScratchFolder folder_;
};

TEST_F(Overwrite, AnInputIsKnownByAnyNameOfItsFolder) {
  EXPECT_EQ(refusal("data/a.png", "out/a.png"), "");
  EXPECT_EQ(refusal("data/a.png", "data/c.png"), "");
  for (const char* same : {"data/a.png", "data/more/../a.png", "link/a.png"}) {
    EXPECT_THAT(refusal("data/a.png", same), HasSubstr("data/a.png' would be overwritten"));
    EXPECT_NE(refusal(same, "data/a.png"), "") << same;
  }
}

TEST_F(Overwrite, NamesMayBeRelativeOrEmpty) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_ / "data");
  EXPECT_NO_THROW(refuse_to_overwrite({"", "a.png"}, {"c.png", "more/a.png", "none/a.png"}));
  EXPECT_THROW(refuse_to_overwrite({"a.png"}, {folder_ / "data/a.png"}), comm::Error);
  EXPECT_THROW(refuse_to_overwrite({"more/../a.png"}, {"./a.png"}), comm::Error);
  fs::current_path(before);
}

TEST_F(Overwrite, PngFilesAreThoseOfTheFolderAlone) {
  std::ofstream(folder_ / "data/more/c.png") << "c";
  EXPECT_THAT(png_files(folder_ / "data"), ElementsAre(folder_ / "data/a.png"));
  EXPECT_THAT(png_files(folder_ / "nothing"), ElementsAre());
}

TEST(JsonWriter, TextsAreUtf8) {
  JsonWriter json;
  json.text("file", "gr\xc3\xbcn-\xff-\xe0\x80\x80.png");
  const rapidjson::Document document = parse_json(json.finish());
  EXPECT_STREQ(document["file"].GetString(), "gr\xc3\xbcn-\\xff-\\xe0\\x80\\x80.png");
}

}  // namespace
}  // namespace trainer
