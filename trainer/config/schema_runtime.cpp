#include "trainer/config/schema.h"

namespace trainer {
namespace {

bool has_boxes(const Config& c) { return c.model.name == ModelName::kRetinanet; }
const Applies kBoxes{"retinanet", has_boxes};

}  // namespace

std::vector<Row<Config>> runtime_rows() {
  return {
      RIDGELINE_ROW(Config, runtime.device,
                    .meaning = "auto: the local rank's GPU, if there is one"),
      RIDGELINE_ROW(Config, runtime.precision,
                    .meaning = "of compute: auto is fp32 on CPUs and bf16 on GPUs; weights are "
                               "kept in fp32"),
      RIDGELINE_ROW(Config, runtime.threads,
                    .meaning = "compute threads a rank; 0: the rank's "
                               "share of the cores, kept on resume",
                    .limits = {.low = 0, .high = 1024}),
      RIDGELINE_ROW(Config, runtime.loader_threads, .meaning = "decoding threads a rank; 0: chosen",
                    .limits = {.low = 0, .high = 1024}),
      RIDGELINE_ROW(
          Config, runtime.conv,
          .meaning = "CPU convolutions: auto uses Winograd by a fixed rule, direct never"),
      RIDGELINE_ROW(Config, runtime.reduction,
                    .meaning = "exact: the same bits on any rank count; fast: the library's order; "
                               "auto: exact with MPI, fast with NCCL"),
      RIDGELINE_ROW(Config, runtime.share_gpu,
                    .meaning = "several ranks on one GPU, exchanging through the host"),
      RIDGELINE_ROW(Config, runtime.capture,
                    .meaning = "CUDA graphs: auto captures one rank's whole step, on several ranks "
                               "what lies between communication; none: nothing, for debugging"),
      RIDGELINE_ROW(Config, runtime.stall_seconds,
                    .meaning = "a rank without progress for longer ends the job; 0: never",
                    .limits = {.low = 0, .high = 1e6}),
      RIDGELINE_ROW(Config, checkpoint.every_steps, .meaning = "steps between checkpoints; 0: off",
                    .limits = {.low = 0, .high = 1e12}),
      RIDGELINE_ROW(Config, checkpoint.every_minutes,
                    .meaning = "minutes between checkpoints; 0: off",
                    .limits = {.low = 0, .high = 1e6}),
      RIDGELINE_ROW(Config, checkpoint.keep, .meaning = "newest checkpoints kept, beside the best",
                    .limits = {.low = 1, .high = 1e6}),
      RIDGELINE_ROW(Config, checkpoint.best,
                    .meaning = "metric of the checkpoint that is kept as best; \"\": none",
                    .resolved = "bbox/AP, semantic/mIoU or classification/accuracy"),
      RIDGELINE_ROW(Config, eval.every_epochs, .meaning = "epochs between evaluations; 0: off",
                    .limits = {.low = 0, .high = 1e6}),
      RIDGELINE_ROW(Config, eval.every_steps, .meaning = "steps between evaluations; 0: off",
                    .limits = {.low = 0, .high = 1e12}),
      RIDGELINE_ROW(Config, eval.score_threshold, .meaning = "detections below are dropped",
                    .limits = {.low = 0, .high = 1}, .applies = kBoxes),
      RIDGELINE_ROW(Config, eval.nms, .meaning = "IoU above which the weaker detection is dropped",
                    .limits = {.low = 0, .high = 1}, .applies = kBoxes),
      RIDGELINE_ROW(Config, eval.detections, .meaning = "most detections an image",
                    .limits = {.low = 1, .high = 10000}, .applies = kBoxes),
      RIDGELINE_ROW(Config, eval.weights, .meaning = "evaluate the raw weights or their average"),
      RIDGELINE_ROW(Config, eval.size,
                    .meaning = "input height and width for evaluation and prediction, pixels; "
                               "several are shape buckets; []: data.size",
                    .limits = {.low = 1, .high = 8192, .max_items = 16}),
      RIDGELINE_ROW(Config, log.every_steps, .meaning = "steps between lines of the log",
                    .limits = {.low = 1, .high = 1e12}),
  };
}

}  // namespace trainer
