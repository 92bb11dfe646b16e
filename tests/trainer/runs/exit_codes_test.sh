#!/usr/bin/env bash
# Every documented exit code, with one line of ours that says what and what to do. (76: the tests of
# comm; 70 is a bug and cannot be asked for.)
. "$(dirname "$0")/common.sh"
out=$scratch/run
train() { ranks 1 train "$config" --out "$out" "${tiny[@]}" train.batch=2 train.steps=2 "$@"; }

expect 64 'did you mean train' "$BINARY" trian
expect 64 'did you mean --resume' "$BINARY" train "$config" --resum never
expect 66 'nowhere.yaml' "$BINARY" train "$scratch/nowhere.yaml"
expect 78 'did you mean' train optimizer.lrr=1
expect 78 'num_classes' train model.num_classes=2
expect 78 'ranks' ranks 3 train "$config" --out "$out" "${tiny[@]}" train.batch=2 train.steps=1
expect 69 'CUDA' train runtime.device=cuda
expect 66 'nowhere' train data.format=coco data.root="$scratch" \
  'data.train={images: nowhere, annotations: nowhere.json}' 'data.val={}'
printf '{"images": [], "annotations": 3}' >"$scratch/broken.json"
expect 65 'broken.json' train data.format=coco data.root="$scratch" \
  'data.train={images: ., annotations: broken.json}' 'data.val={}'
expect 0 '' train
expect 73 'resume' train --resume never
expect 77 'train.seed' train train.seed=9
expect 79 'step' ranks 2 train "$config" --out "$scratch/diverged" "${tiny[@]}" train.batch=2 \
  train.steps=40 optimizer.lr=1e30 clip.norm=0
(ulimit -v 300000; expect 71 'memory' train --out "$scratch/small"; exit "$failures") || failures=1

# A damaged checkpoint is not used; with no other one the run refuses to start.
printf 'x' | dd of="$out/checkpoints/step-00000002/model.h5" bs=1 seek=100000 conv=notrunc status=none
expect 77 'step-00000002' train train.steps=4
# Two runs in one folder.
ranks 1 train "$config" --out "$scratch/busy" "${tiny[@]}" train.batch=2 train.steps=1000 \
  >/dev/null 2>&1 &
first=$!
sleep 3
expect 73 'busy' train --out "$scratch/busy"
kill -9 "$first"
wait "$first" 2>/dev/null
# A full disk: the save fails, the final one ends the run.
if mkdir "$scratch/full" && mount -t tmpfs -o size=1m tmpfs "$scratch/full" 2>/dev/null; then
  expect 74 '' ranks 1 train "$config" --out "$scratch/full/run" "${tiny[@]}" train.batch=2 \
    train.steps=1
  umount "$scratch/full"
else
  echo "skipped: 74 on a full disk needs root"
fi
finish
