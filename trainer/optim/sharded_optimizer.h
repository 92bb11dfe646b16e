#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trainer/optim/gradient_exchange.h"
#include "trainer/optim/host_mirror.h"
#include "trainer/optim/ledger.h"
#include "trainer/optim/norm_clip.h"
#include "trainer/optim/update.h"
#include "trainer/optim/upload_ring.h"

namespace trainer {

struct OptimizerSetup {
  OptimizerConfig rule;
  RegularizationConfig regularization;
  ClipConfig clip;
  EmaConfig ema;
  std::int64_t num_micro_batches = 1;  // M, of the global batch
  bool exact = true;                   // runtime.reduction
};

// What changes from one step to the next.
struct StepValues {
  std::int64_t step = 0;     // updates before this one
  double lr = 0;             // learning rate of this update
  double lr_factor = 1;      // lr / base lr, for decay_scale: schedule_only
  double lambda_factor = 1;  // schedule of lambda
  bool report = false;       // fill in OptimizerReport
};

// Norms of one group of the ledger, or of all trained tensors; the same bits on any rank count.
struct GroupReport {
  std::string group;
  double penalty = 0;       // lambda/2 or lambda times sum w^2
  double weight_norm = 0;   // before the update, as in the loss
  double update_ratio = 0;  // |w_new - w_old| / |w_old|
  double sparsity = 0;      // share of exact zeros after the update
};
struct OptimizerReport {
  double grad_norm = 0;  // of the mean gradient, before clipping
  double l2_penalty = 0;
  double loss_penalty = 0;  // the part of it that mode: loss adds to the loss
  std::vector<GroupReport> groups;
};

// ZeRO-1: every rank updates its own shard of each bucket and gathers the others'. Answers the
// plan's markers; buckets advance strictly in order, so that all ranks start the same collectives
// in the same order. On a GPU the host launches the work and goes on; what it must know (norms of
// LARS, of clipping over ranks and of reports) it waits for.
class ShardedOptimizer {
 public:
  // On a GPU the communicator is a comm::device_communicator.
  ShardedOptimizer(models::ParameterStorage& storage, comm::Communicator& communicator,
                   comm::StreamView stream, const OptimizerSetup& setup);
  ~ShardedOptimizer();

  void begin_step(const StepValues& values);
  // The gradients of bucket k of this rank's next micro-batch are written.
  void bucket_ready(int bucket);
  // Drives what is in flight without waiting. Cheap; called between kernels, so that the
  // gathers of one step go on during the next step's forward pass.
  void progress();
  // Waits until the parameters of bucket k are whole.
  void bucket_needed(int bucket);
  // Every bucket is updated and its gather started. Collective.
  void finish_updates();
  // Whether bucket_ready launches the same from step to step, with what changes in memory, and
  // waits for nothing: one rank does, except for LARS. Then it can be recorded, and bucket_ready of
  // the last bucket updates them all. What it launches depends on the micro-batch's place in the
  // step and, for the last one, on StepValues::report.
  bool can_be_recorded() const;
  // Instead of bucket_ready for all buckets of a micro-batch: what was recorded of it is launched.
  // REQUIRES: can_be_recorded().
  void repeated();
  // Every bucket is gathered. Collective.
  void finish();

  // Whether something of this step's update is not finite on this rank: an int32 that is not 0
  // then. After finish_updates. ASYNC on a GPU: `verdict` is memory of Buffer::for_transfer.
  void fetch_verdict(const comm::Buffer& verdict) const;
  // Collective; REQUIRES: the step was begun with report.
  OptimizerReport report();

  const std::vector<LedgerEntry>& ledger() const { return ledger_; }
  std::int64_t state_bytes() const;
  std::int64_t num_micro_batches() const { return setup_.num_micro_batches; }

  // Pieces of this rank's state, cut at tensor and shard borders: [begin, end) inside the tensor.
  // The values lie in memory of the host and stand until the next call. REQUIRES: finish().
  using StateVisitor = std::function<void(const std::string& state, const std::string& tensor,
                                          std::int64_t begin, std::int64_t end, std::span<float>)>;
  void for_each_state(const StateVisitor& visit);
  // Makes that memory now, since page-locking takes its time; else the first visit does.
  void make_mirrors();
  void store_states();  // what a visitor wrote becomes the state
  bool has_ema() const { return setup_.ema.decay > 0; }
  void start_ema();  // EMA = parameters, at a fresh start
  // Writes the averaged weights whole into `whole`, laid out and placed as the parameter buffer.
  // Collective. ASYNC: in the order of the stream.
  void gather_ema(comm::Buffer& whole);

 private:
  struct BucketState {
    bool reduced = false;             // `gradient` is this step's
    std::span<const float> gradient;  // of this rank's shard, over the global batch
    std::unique_ptr<comm::Request> gather;  // until the next step needs the parameters
    std::int64_t num_blocks = 0;            // of this rank's shard
    std::int64_t first_block = 0;           // in the buffers of all of this rank's shards
    std::int64_t state_offset() const { return first_block * models::kBlockElements; }
  };
  std::vector<std::int32_t> make_segments();
  void allocate(const std::vector<std::int32_t>& segment_of_block);
  void fill_segments();
  void send_step();
  ShardView shard(int bucket);
  FoundView found(int bucket);
  UpdateScalars scalars() const;
  bool gate_open();
  void advance(int bucket);
  void update(int bucket);
  void clip();
  void clip_over_ranks();
  void set_trust(int bucket);
  std::vector<BlockSums> tensor_sums(int first_bucket, int num_buckets);
  struct State {
    std::string name;
    const comm::Buffer* values;
    HostMirror* host;
  };
  std::vector<State> states();
  void visit_state(const State& state, const StateVisitor& visit);

  models::ParameterStorage& storage_;
  const models::ParameterLayout& layout_;
  comm::Communicator& communicator_;
  comm::StreamView stream_;
  OptimizerSetup setup_;
  GradientExchange exchange_;
  std::vector<LedgerEntry> ledger_;
  std::vector<Segment> segments_;  // one a slot of the layout
  std::vector<BucketState> buckets_;
  std::int64_t num_blocks_ = 0;  // of this rank's shards
  comm::Buffer state1_, state2_, ema_;
  HostMirror host_state1_, host_state2_, host_ema_;  // from make_mirrors on
  comm::Buffer segment_of_block_;                    // of this rank's blocks
  comm::Buffer sums_;                                // likewise
  HostMirror host_sums_;
  comm::Buffer lanes_, flag_;  // on a GPU
  UploadRing step_;  // StepScalars, then the segments
  StepValues values_;
  NormClip norm_clip_;    // where clipping can be recorded
  float clip_ = 1;        // where it cannot: the factor, as the host knows it
  bool clipped_ = false;  // the factor is set, or launched
  int next_ = 0;          // first bucket that is not gathering yet
  bool non_finite_ = false;
};

// Names of the state buffers of a rule, as PyTorch's: momentum, exp_avg, exp_avg_sq, sum,
// square_avg.
std::vector<std::string> state_names(const OptimizerConfig& rule);

}  // namespace trainer
