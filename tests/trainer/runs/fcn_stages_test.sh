#!/usr/bin/env bash
# The paper's FCN in stages, 32s, 16s, 8s, each from the one before by --init-partial: it takes what
# they share, so the loss goes on where it was. One image, so every step has the same batch.
. "$(dirname "$0")/common.sh"

data='data={format: shapes, train: {limit: 1}, size: [64,64]}'
# stage RUN CONFIG SETTING...: trains $scratch/RUN, which keeps its last two steps.
stage() {
  local run=$1 file=$2
  shift 2
  "$BINARY" train "$source_dir/configs/$file" --out "$scratch/$run" "$data" model.num_classes=4 \
    model.dropout=0 runtime.threads=2 runtime.loader_threads=1 \
    eval.every_epochs=0 eval.every_steps=0 checkpoint.every_steps=1 checkpoint.keep=2 \
    log.every_steps=1 "$@" >"$scratch/log" 2>&1 ||
    fail "$run: $(tail -3 "$scratch/log")"
}
loss() { sed -n "$2s/.*\"loss\":\([^,]*\),.*/\1/p" "$scratch/$1/metrics.jsonl"; }
# holds EXPRESSION MESSAGE
holds() { awk "BEGIN { exit !($1) }" || fail "$2: $1"; }
# continues RUN BEFORE STEP TOLERANCE MISSING: RUN begins with the loss that BEFORE has after STEP
# steps, and lacks nothing but its skip.
continues() {
  local first before
  first=$(loss "$1" 1)
  before=$(loss "$2" $(($3 + 1)))
  holds "($first - $before)^2 < ($4 * $before)^2" "$1 does not go on from $2"
  grep -q "not loaded: missing $5.weight, missing $5.bias\$" "$scratch/log" ||
    fail "$1: $(grep loaded "$scratch/log")"
}

r18=fcn_r18_8s_nuclei.yaml
resnet=(train.batch=1 train.micro_batch=1 'optimizer={name: sgd, lr: 0.05}' schedule.type=constant
        model.deconvolution=fixed)
stage r32s "$r18" "${resnet[@]}" model.head=32s train.steps=9
stage r16s "$r18" "${resnet[@]}" model.head=16s train.steps=9 \
  --init "$scratch/r32s/checkpoints/step-00000008" --init-partial
continues r16s r32s 8 0.4 score_pool4
stage r8s "$r18" "${resnet[@]}" model.head=8s train.steps=2 \
  --init "$scratch/r16s/checkpoints/step-00000008" --init-partial
continues r8s r16s 8 0.4 score_pool3
holds "$(loss r8s 2) < 0.7 * $(loss r32s 1)" "nothing was learned"
# The next stage is another network: not without --init-partial.
expect 77 "score_pool3.weight" "$BINARY" train "$source_dir/configs/$r18" "${resnet[@]}" \
  --out "$scratch/whole" --init "$scratch/r16s" model.num_classes=4 "$data"

# On VGG16 the presets, but for data, rate and dropout. A new skip is zero; what differs is that two
# interpolations cut corners that one does not.
vgg=('data.size=[16,16]' train.steps=2 'optimizer={name: sgd, lr: 1e-4}')
stage v32s fcn32s_voc.yaml "${vgg[@]}"
holds "$(loss v32s 2) < 0.99 * $(loss v32s 1)" "VGG16 does not learn"
stage v16s fcn16s_voc.yaml "${vgg[@]}" train.steps=1 --init-partial \
  --init "$scratch/v32s/checkpoints/step-00000001"
continues v16s v32s 1 0.01 score_pool4
finish
