#!/usr/bin/env bash
# Whole runs on the software GPU (tests/software_gpu): the step, its reports, checkpoints and
# evaluation with a device whose memory the host cannot touch and whose work runs as late as it may.
. "$(dirname "$0")/common.sh"
[ -x "${SOFTWARE_GPU_BINARY:-}" ] || { echo "skipped: no software GPU in a CUDA build"; exit 77; }
cpu_binary=$BINARY
tiny+=(runtime.precision=fp32 runtime.conv=direct train.batch=2 train.steps=3
       schedule.warmup_steps=0 clip.norm=0 'optimizer={name: sgd, lr: 1.0e-3, momentum: 0.9}')
last=checkpoints/step-00000003

use() {
  BINARY=$cpu_binary
  [ "$1" = cpu ] || BINARY=$SOFTWARE_GPU_BINARY
}
# run DEVICE N OUT ARGUMENT...: trains.
run() {
  local device=$1 n=$2 out=$scratch/$3
  shift 3
  use "$device"
  ranks "$n" train "$config" --out "$out" "${tiny[@]}" runtime.device="$device" "$@" \
    >"$scratch/log" 2>&1 || fail "$device, $n ranks, $*: $(tail -3 "$scratch/log")"
}
# same A B FILE...
same() {
  local a=$scratch/$1 b=$scratch/$2 file
  shift 2
  for file in "$@"; do
    cmp "$a/$last/$file" "$b/$last/$file" || fail "$a and $b: other bits in $file"
  done
}
values() { grep -o "\"$2\": *[^,}]*" "$scratch/$1/metrics.jsonl" | sed 's/.*: *//'; }
# near A B: loss and grad_norm of the three steps agree to 1e-3.
near() {
  local field
  for field in loss grad_norm; do
    paste <(values "$1" "$field") <(values "$2" "$field") | awk '
      { d = $1 > $2 ? $1 - $2 : $2 - $1; if (!(d <= 1e-3 * $1)) { print NR ": " $0; bad = 1 } }
      END { exit bad || NR != 3 }' || fail "$1 and $2 differ in $field"
  done
}

# Against a CPU; on two ranks that share the GPU; stopped after a step and continued.
run cpu 1 cpu
run cuda 1 gpu
grep -q 'device cuda:0 (Software GPU)' "$scratch/gpu/log.txt" || fail "the log names another device"
near cpu gpu
run cuda 2 ranks runtime.share_gpu=true
same gpu ranks model.h5
run cuda 1 parts train.steps=1
run cuda 1 parts
same gpu parts model.h5 optimizer-00000-of-00001.h5
grep -q 'not bitwise' "$scratch/parts/log.txt" && fail "a resume says that it is not bitwise"

# The report of the second step comes while the third is computed; nothing is recorded.
run cuda 1 late log.every_steps=5 runtime.capture=none
same gpu late model.h5
for field in loss grad_norm; do
  [ "$(values gpu $field | sed -n '1p;3p')" = "$(values late $field)" ] ||
    fail "$field of steps that are logged sparsely"
done

adamw=('optimizer={name: adamw, lr: 1.0e-5}' clip.norm=1 ema.decay=0.9)
# Every step reads its own scalars; clipping waits for the norm; the average is evaluated.
run cuda 1 adamw "${adamw[@]}" eval.every_steps=3 eval.weights=ema
run cuda 2 adamw-ranks "${adamw[@]}" runtime.share_gpu=true
same adamw adamw-ranks model.h5 model-ema.h5

# Label maps and synchronised norm: micro-batches that wait for each other.
fcn='model={name: fcn, backbone: resnet18, head: 8s, dropout: 0.2, norm: sync}'
run cpu 1 fcn-cpu "$fcn"
run cuda 1 fcn-cuda "$fcn"
near fcn-cpu fcn-cuda
run cuda 2 fcn-ranks "$fcn" runtime.share_gpu=true
same fcn-cuda fcn-ranks model.h5

# Evaluation and prediction say what a CPU says of the same weights.
for device in cpu cuda; do
  use "$device"
  for verb in eval predict; do
    words=()
    [ "$verb" = predict ] && words=("$scratch/gpu/pictures/train_batch_0.png")
    "$BINARY" "$verb" "$config" --checkpoint "$scratch/fcn-cuda" \
      --out "$scratch/$verb-$device" "${words[@]}" "${tiny[@]}" "$fcn" \
      runtime.device="$device" >"$scratch/log" 2>&1 ||
      fail "$verb, $device: $(tail -3 "$scratch/log")"
  done
done
cmp "$scratch/eval-cpu/metrics.json" "$scratch/eval-cuda/metrics.json" || fail "other metrics"
cmp "$scratch/predict-cpu/predictions.json" "$scratch/predict-cuda/predictions.json" ||
  fail "other predictions"

# What goes wrong: divergence names step and op, and saves nothing; a GPU that is too small; two
# ranks on one GPU.
use cuda
expect 79 'step [0-9]*: .*nothing is saved' ranks 1 train "$config" --out "$scratch/diverged" \
  "${tiny[@]}" runtime.device=cuda train.steps=60 optimizer.lr=1000 \
  log.every_steps=50 checkpoint.every_steps=1000
grep -q 'loss .* first in .*; samples' "$scratch/stderr" || fail "$(cat "$scratch/stderr")"
compgen -G "$scratch/diverged/checkpoints/step-*" && fail "a run that diverged left a checkpoint"
SOFTWARE_GPU_MIB=64 expect 69 'too small' ranks 1 train "$config" --out "$scratch/small" \
  "${tiny[@]}" runtime.device=cuda
expect 69 'share one GPU' ranks 2 train "$config" --out "$scratch/two" "${tiny[@]}" \
  runtime.device=cuda
finish
