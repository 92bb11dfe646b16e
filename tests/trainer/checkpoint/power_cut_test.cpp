#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>

#include "tests/trainer/checkpoint/fault_layer.h"
#include "tests/trainer/checkpoint/test_run.h"

// What a power cut may leave of a save: the calls of a real save are recorded, and for every prefix
// folders are rebuilt in which what was not yet fsynced is lost, torn or applied out of order (the
// model of ALICE, OSDI'14). A file's content is safe after fsync of the file, a name after fsync of
// its folder; changes of one folder's names persist as any subset, a rename as a whole.
namespace trainer {
namespace {

using fault::Kind;
using fault::Operation;

struct Node;
using NodePointer = std::shared_ptr<Node>;
using Entries = std::map<std::string, NodePointer>;

// One change of a folder's names: some removed, some set.
struct Change {
  std::vector<std::string> removed;
  Entries set;
};

struct Node {
  bool is_folder = false;
  std::string link;           // target of a symbolic link
  std::string data, durable;  // of a file: now, and as of the last fsync
  Entries entries, durable_entries;
  std::vector<Change> pending;  // since the last fsync of the folder
};

void apply_change(const Change& change, Entries& entries) {
  for (const std::string& name : change.removed) entries.erase(name);
  for (const auto& [name, node] : change.set) entries[name] = node;
}

class Disk {
 public:
  // A folder that has been on disk for long.
  explicit Disk(const fs::path& folder) : base_(folder), root_(load(folder)) {}

  void replay(const Operation& operation) {
    const fs::path path = operation.path;
    switch (operation.kind) {
      case Kind::kOpen:
        if (!operation.truncates) break;
        if (find(path) == nullptr) add(path, std::make_shared<Node>());
        find(path)->data.clear();
        break;
      case Kind::kWrite:
        find(path)->data += operation.data;
        break;
      case Kind::kSync:
        sync(*find(path));
        break;
      case Kind::kRename:
        change(path, Change{{name(path)}, Entries{{name(operation.other), find(path)}}});
        break;
      case Kind::kMakeFolder: {
        const auto node = std::make_shared<Node>();
        node->is_folder = true;
        add(path, node);
        break;
      }
      case Kind::kRemove:
        change(path, Change{{name(path)}, {}});
        break;
      case Kind::kLink: {
        const auto node = std::make_shared<Node>();
        node->link = operation.other;
        add(path, node);
        break;
      }
      case Kind::kClose:
        break;
    }
  }

  enum class Survival { kNothing, kEverything, kNamesOnly, kRandom };

  // Writes what a power cut now could leave.
  void materialise(const fs::path& into, Survival survival, std::mt19937& random) const {
    write(*root_, into, survival, random);
  }

 private:
  static std::string name(const fs::path& path) { return path.filename().native(); }

  static NodePointer load(const fs::path& path) {
    const auto node = std::make_shared<Node>();
    if (fs::is_symlink(path)) {
      node->link = fs::read_symlink(path).native();
    } else if (fs::is_directory(path)) {
      node->is_folder = true;
      for (const auto& entry : fs::directory_iterator(path))
        node->entries[name(entry.path())] = load(entry.path());
      node->durable_entries = node->entries;
    } else {
      node->data = node->durable = read_text(path);
    }
    return node;
  }

  Node* folder_of(const fs::path& path) {
    Node* node = root_.get();
    for (const fs::path& part : path.parent_path().lexically_relative(base_))
      if (part != ".") node = node->entries.at(part.native()).get();
    return node;
  }
  NodePointer find(const fs::path& path) {
    if (path == base_) return root_;
    const Entries& entries = folder_of(path)->entries;
    const auto found = entries.find(name(path));
    return found == entries.end() ? nullptr : found->second;
  }
  void change(const fs::path& path, Change change) {
    Node* folder = folder_of(path);
    apply_change(change, folder->entries);
    folder->pending.push_back(std::move(change));
  }
  void add(const fs::path& path, NodePointer node) {
    change(path, Change{{}, Entries{{name(path), std::move(node)}}});
  }
  static void sync(Node& node) {
    node.durable = node.data;
    node.durable_entries = node.entries;
    node.pending.clear();
  }

  static void write(const Node& node, const fs::path& into, Survival survival,
                    std::mt19937& random) {
    if (!node.link.empty()) {
      fs::create_symlink(node.link, into);
    } else if (node.is_folder) {
      fs::create_directory(into);
      Entries entries = node.durable_entries;
      for (const Change& change : node.pending)
        if (survival == Survival::kRandom ? random() % 2 == 0 : survival != Survival::kNothing)
          apply_change(change, entries);
      for (const auto& [name, child] : entries) write(*child, into / name, survival, random);
    } else {
      write_text(into, content(node, survival, random));
    }
  }
  static std::string content(const Node& node, Survival survival, std::mt19937& random) {
    if (survival == Survival::kEverything) return node.data;
    if (survival != Survival::kRandom || node.data == node.durable) return node.durable;
    // Torn: a prefix, or the full length with a hole of zeros where a page was not written.
    std::string torn = node.data.substr(0, random() % (node.data.size() + 1));
    if (random() % 2 == 0) torn.resize(node.data.size(), '\0');
    return torn;
  }

  fs::path base_;
  NodePointer root_;
};

struct Trace {
  TestFolder before;  // the folder as it was
  std::vector<Operation> operations;
};

// A save of step 2 by `size` ranks over step 1, with removal of the old one and change of the link.
void record(int size, TestFolder& run, Trace& trace) {
  save_step(run, size, 1, {.keep = 1}, true);
  fs::copy(run, trace.before, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  fault::arm({.folder = run.path(), .record = true});
  save_step(run, size, 2, {.keep = 1}, true);
  fault::disarm(&trace.operations);
  for (Operation& operation : trace.operations)  // as if it had happened in `before`
    for (std::string* path : {&operation.path, &operation.other})
      if (path->starts_with(run.path().native()))
        *path = (trace.before.path() / fs::path(*path).lexically_relative(run)).native();
}

bool holds_old_or_new(const fs::path& run) {
  try {
    const std::optional<Checkpoint> found = newest(run);
    if (!found || (found->meta().step != 1 && found->meta().step != 2)) return false;
    TestState(found->meta().step).expect_equal(*found);
    return !testing::Test::HasFailure();
  } catch (const comm::Error&) {
    return false;
  }
}

struct Count {
  int num_states = 0;
  int num_lost = 0;
};

// Over all prefixes; `forget` tells which calls the disk never saw.
template <typename Forget>
Count cut_everywhere(const Trace& trace, Forget forget) {
  constexpr int kRandomStates = 5;
  std::mt19937 random(7);
  const TestFolder work;
  const fs::path rebuilt = work.path() / "run";
  Disk disk(trace.before);
  Count count;
  for (std::size_t prefix = 0; prefix <= trace.operations.size(); ++prefix) {
    std::vector<Disk::Survival> survivals(kRandomStates, Disk::Survival::kRandom);
    survivals.insert(survivals.end(), {Disk::Survival::kNothing, Disk::Survival::kEverything,
                                       Disk::Survival::kNamesOnly});
    for (const Disk::Survival survival : survivals) {
      fs::remove_all(rebuilt);
      disk.materialise(rebuilt, survival, random);
      ++count.num_states;
      count.num_lost += !holds_old_or_new(rebuilt);
    }
    if (prefix < trace.operations.size() && !forget(trace.operations[prefix]))
      disk.replay(trace.operations[prefix]);
  }
  return count;
}

class PowerCut : public testing::TestWithParam<int> {
 protected:
  PowerCut() { record(GetParam(), run, trace); }
  TestFolder run;
  Trace trace;
};

TEST_P(PowerCut, LeavesOldOrNew) {
  const Count count = cut_everywhere(trace, [](const Operation&) { return false; });
  EXPECT_EQ(count.num_lost, 0);
  EXPECT_GE(count.num_states, 400);
}

// Negative controls: a save that forgets to fsync files, or folders, is caught.
TEST_P(PowerCut, MissingSyncOfFilesIsCaught) {
  const Count count = cut_everywhere(trace, [](const Operation& operation) {
    return operation.kind == Kind::kSync && operation.path.find(".tmp-model") != std::string::npos;
  });
  EXPECT_GT(count.num_lost, 0);
}

TEST_P(PowerCut, MissingSyncOfFoldersIsCaught) {
  const Count count = cut_everywhere(trace, [](const Operation& operation) {
    return operation.kind == Kind::kSync && operation.path.ends_with("/checkpoints");
  });
  EXPECT_GT(count.num_lost, 0);
}

INSTANTIATE_TEST_SUITE_P(Ranks, PowerCut, testing::Values(1, 2, 3));

}  // namespace
}  // namespace trainer
