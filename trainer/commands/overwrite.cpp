#include "trainer/commands/overwrite.h"

#include <map>
#include <set>

#include "comm/error.h"
#include "trainer/data/anomalies.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;

fs::path real_path(const fs::path& path) {
  std::error_code unreadable;
  const fs::path absolute = fs::absolute(path.empty() ? "." : path, unreadable);
  fs::path real = fs::weakly_canonical(absolute, unreadable);
  return unreadable ? absolute.lexically_normal() : real;
}

}  // namespace

std::vector<fs::path> png_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code none;
  for (fs::directory_iterator it(folder, none); !none && it != fs::directory_iterator();
       it.increment(none)) {
    if (it->path().extension() == ".png" && !it->is_directory(none)) files.push_back(it->path());
  }
  return files;
}

void refuse_to_overwrite(const std::vector<std::string>& inputs,
                         const std::vector<fs::path>& outputs) {
  std::set<fs::path> written;
  for (const fs::path& output : outputs) written.insert(real_path(output));
  // A look at each of 100,000 images takes minutes on a network file system: those in folders that
  // nothing is written to are passed over.
  std::set<fs::path> folders;
  for (const fs::path& output : written) folders.insert(output.parent_path());
  std::map<fs::path, bool> is_written_to;
  for (const fs::path input : inputs) {
    if (input.empty()) continue;
    const fs::path folder = input.parent_path();
    const auto [known, is_new] = is_written_to.try_emplace(folder);
    if (is_new) known->second = folders.contains(real_path(folder));
    if (!known->second || !written.contains(real_path(input))) continue;
    comm::fail(comm::ExitCode::kUsage, "--out: {} would be overwritten; choose another folder",
               trainer::quoted(input.string()));
  }
}

}  // namespace trainer
