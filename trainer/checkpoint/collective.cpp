#include "trainer/checkpoint/collective.h"

#include <fmt/format.h>

namespace trainer {

std::string from_rank0(comm::Communicator& comm, const std::string& text) {
  return comm.all_gather(comm.rank() == 0 ? text : std::string())[0];
}

void agree(comm::Communicator& comm, const std::optional<comm::Error>& mine) {
  const std::string report =
      mine ? fmt::format("{:3}{}", static_cast<int>(mine->code()), mine->what()) : std::string();
  const std::vector<std::string> reports = comm.all_gather(report);
  for (int rank = 0; rank < comm.size(); ++rank) {
    const std::string& text = reports[static_cast<std::size_t>(rank)];
    if (text.empty()) continue;
    const auto code = static_cast<comm::ExitCode>(std::stoi(text.substr(0, 3)));
    if (rank == 0) throw comm::AgreedError(code, text.substr(3));
    throw comm::AgreedError(code,
                            fmt::format("rank {} ({}): {}", rank, comm.host(rank), text.substr(3)));
  }
}

}  // namespace trainer
