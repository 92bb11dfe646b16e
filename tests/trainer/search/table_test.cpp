#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <thread>

#include "comm/error.h"
#include "tests/trainer/search/search_folder.h"
#include "trainer/search/trial_queue.h"
#include "trainer/search/trial_table.h"

namespace trainer {
namespace {

const std::vector<std::string> kKeys = {"regularization.l2", "data.size"};

TrialRow row(const std::string& id, double metric = 0.5) {
  return {id, {"1e-06", "[64,64]"}, 3, 1, 0, 40, metric, 0.75, 1.25, 2.5, 0, ""};
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

TEST(Csv, ARowReadsBackEqual) {
  TrialRow failed = row("c001-s3-f1-r0");
  failed.code = 79;
  failed.reason = "step 3: the loss is \"nan\", a, b";
  const TrialRow done = row("c000-s3-f1-r0", 0.1 + 0.2);
  const TrialRows rows = read_csv(csv_header(kKeys) + csv_line(done) + csv_line(failed), kKeys);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows.at("c000-s3-f1-r0"), done);
  EXPECT_EQ(rows.at("c001-s3-f1-r0"), failed);
}

TEST(Csv, UndefinedNumbersAreEmptyCells) {
  TrialRow undefined = row("c000-s1-f0-r0", std::nan(""));
  const std::string line = csv_line(undefined);
  EXPECT_EQ(line.find("nan"), std::string::npos);
  const TrialRows rows = read_csv(csv_header(kKeys) + line, kKeys);
  EXPECT_TRUE(std::isnan(rows.begin()->second.metric));
}

TEST(Csv, AReasonNeverBreaksItsLine) {
  TrialRow failed = row("c000-s1-f0-r0");
  failed.code = 65;
  failed.reason = "two\nlines";
  const std::string line = csv_line(failed);
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(Csv, ATornLastLineIsLeftOut) {
  const std::string whole = csv_header(kKeys) + csv_line(row("c000-s1-f0-r0"));
  const std::string torn = csv_line(row("c001-s1-f0-r0"));
  for (std::size_t cut = 0; cut < torn.size(); ++cut)
    EXPECT_EQ(read_csv(whole + torn.substr(0, cut), kKeys).size(), 1u) << cut;
  EXPECT_EQ(read_csv(whole + torn, kKeys).size(), 2u);
}

TEST(Csv, ALaterLineOfATrialCounts) {
  const TrialRows rows = read_csv(csv_header(kKeys) + csv_line(row("c000-s1-f0-r0", 0.25)) +
                                      csv_line(row("c000-s1-f0-r0", 0.75)),
                                  kKeys);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows.begin()->second.metric, 0.75);
}

TEST(Csv, OtherKeysAndDamageAreRefused) {
  const auto code = [](const std::string& text) {
    try {
      read_csv(text, kKeys);
    } catch (const comm::Error& error) {
      return error.code();
    }
    return comm::ExitCode::kDone;
  };
  EXPECT_EQ(code(csv_header({"optimizer.lr"})), comm::ExitCode::kCheckpointRefused);
  EXPECT_EQ(code(csv_header(kKeys) + "c000,1,2\n"), comm::ExitCode::kCheckpointRefused);
  std::string bad = csv_line(row("c000-s1-f0-r0"));
  bad.replace(bad.find("done"), 4, "dune");
  EXPECT_EQ(code(csv_header(kKeys) + bad), comm::ExitCode::kCheckpointRefused);
}

TEST(Table, RepairCutsOffATornLineAndAppendsGoOn) {
  const SearchFolder folder;
  const TrialTable table(folder / "trials.csv", kKeys);
  EXPECT_EQ(table.text(), "");
  table.repair();
  table.append(row("c000-s1-f0-r0"));
  const std::string before = text_of(folder / "trials.csv");
  write(folder / "trials.csv", before + "c001-s1-f0-r0,1e-0");
  table.repair();
  EXPECT_EQ(text_of(folder / "trials.csv"), before);
  table.append(row("c002-s1-f0-r0"));
  EXPECT_EQ(read_csv(table.text(), kKeys).size(), 2u);
}

TEST(Table, RepairOfATornHeaderStartsAnew) {
  const SearchFolder folder;
  write(folder / "trials.csv", "trial,regular");
  TrialTable(folder / "trials.csv", kKeys).repair();
  EXPECT_EQ(text_of(folder / "trials.csv"), csv_header(kKeys));
}

TEST(Table, WritersAtOnceKeepLinesWhole) {
  const SearchFolder folder;
  const std::filesystem::path file = folder / "trials.csv";
  TrialTable(file, kKeys).repair();
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w)
    writers.emplace_back([&, w] {
      const TrialTable table(file, kKeys);
      for (int i = 0; i < 25; ++i) table.append(row(fmt::format("c{:03}-s{}-f0-r0", i, w)));
    });
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(read_csv(text_of(file), kKeys).size(), 100u);
}

TEST(Queue, EveryTrialIsClaimedOnce) {
  const SearchFolder folder;
  const TrialQueue queue(folder / "claims");
  queue.clear();
  std::array<int, 4> claimed{};
  std::vector<std::thread> groups;
  for (int g = 0; g < 4; ++g)
    groups.emplace_back([&, g] {
      for (int i = 0; i < 100; ++i)
        claimed[static_cast<std::size_t>(g)] += queue.claim(std::to_string(i));
    });
  for (std::thread& group : groups) group.join();
  EXPECT_EQ(claimed[0] + claimed[1] + claimed[2] + claimed[3], 100);
}

TEST(Queue, ClosingStopsAllAndClearingForgets) {
  const SearchFolder folder;
  const TrialQueue queue(folder / "claims");
  queue.clear();
  EXPECT_TRUE(queue.claim("c000"));
  EXPECT_FALSE(queue.claim("c000"));
  EXPECT_FALSE(queue.closed());
  queue.close();
  EXPECT_TRUE(TrialQueue(folder / "claims").closed());
  queue.clear();
  EXPECT_FALSE(queue.closed());
  EXPECT_TRUE(queue.claim("c000"));
}

}  // namespace
}  // namespace trainer
