#pragma once

#include "comm/communicator.h"

// What every Communicator promises; called by each of its ranks. Failures are gtest's.
namespace comm::contract {

void broadcast_reaches_all(Communicator& communicator);
void sums_are_in_rank_order(Communicator& communicator);
void max_and_min(Communicator& communicator);
void integers_are_exact(Communicator& communicator);
void gathers_strings_of_any_length(Communicator& communicator);
void exchange_moves_every_message(Communicator& communicator);
void exchange_matches_by_order_and_tag(Communicator& communicator);
void exchange_with_itself(Communicator& communicator);
void reduce_scatter_leaves_the_own_shard(Communicator& communicator);
void all_gather_fills_all_shards(Communicator& communicator);
void bulk_verbs_overlap(Communicator& communicator);
void split_keeps_order_and_is_separate(Communicator& communicator);
void wrong_arguments_are_refused(Communicator& communicator);

using Check = void (*)(Communicator&);
struct Named {
  const char* name;
  Check check;
};
inline constexpr Named kAll[] = {
    {"broadcast_reaches_all", broadcast_reaches_all},
    {"sums_are_in_rank_order", sums_are_in_rank_order},
    {"max_and_min", max_and_min},
    {"integers_are_exact", integers_are_exact},
    {"gathers_strings_of_any_length", gathers_strings_of_any_length},
    {"exchange_moves_every_message", exchange_moves_every_message},
    {"exchange_matches_by_order_and_tag", exchange_matches_by_order_and_tag},
    {"exchange_with_itself", exchange_with_itself},
    {"reduce_scatter_leaves_the_own_shard", reduce_scatter_leaves_the_own_shard},
    {"all_gather_fills_all_shards", all_gather_fills_all_shards},
    {"bulk_verbs_overlap", bulk_verbs_overlap},
    {"split_keeps_order_and_is_separate", split_keeps_order_and_is_separate},
    {"wrong_arguments_are_refused", wrong_arguments_are_refused},
};

}  // namespace comm::contract
