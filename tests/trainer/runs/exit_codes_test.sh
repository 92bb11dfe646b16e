#!/usr/bin/env bash
# Every documented exit code, with one line of ours that says what and what to do. (76: the tests of
# comm; 70 is a bug and cannot be asked for.)
. "$(dirname "$0")/common.sh"

# in_folder OUT ARGUMENT...: a run of two steps on one rank.
in_folder() {
  local out=$1
  shift
  ranks 1 train "$config" --out "$out" "${tiny[@]}" train.batch=2 train.steps=2 "$@"
}
out=$scratch/run
cat >"$scratch/coco.yaml" <<YAML
model: {name: retinanet, backbone: resnet18}
data: {format: coco, root: $scratch, train: {images: ., annotations: broken.json}, size: [64, 64]}
train: {batch: 2, micro_batch: 1, steps: 1}
YAML

expect 64 'did you mean train' "$BINARY" trian
expect 64 'did you mean --resume' "$BINARY" train "$config" --resum never
expect 66 'nowhere.yaml' "$BINARY" train "$scratch/nowhere.yaml"
expect 78 'did you mean' in_folder "$out" optimizer.lrr=1
expect 78 'micro-batches' ranks 3 train "$config" --out "$out" "${tiny[@]}" train.batch=2 \
  train.steps=1
expect 69 'CUDA' in_folder "$scratch/cuda" runtime.device=cuda
expect 66 'broken.json' "$BINARY" train "$scratch/coco.yaml" --out "$scratch/coco"
printf '{"images": [], "annotations": 3}' >"$scratch/broken.json"
expect 65 'broken.json' "$BINARY" train "$scratch/coco.yaml" --out "$scratch/coco"
expect 0 '' in_folder "$out"
# Two ranks that find other boxes under the same names, each in a working directory of its own.
png=$out/pictures/train_batch_0.png
read -r width height < <(od -An -t u4 --endian=big -j 16 -N 8 "$png")
words=(-q --oversubscribe --bind-to none)
for side in 20 30; do
  mkdir "$scratch/boxes-$side"
  cp "$png" "$scratch/boxes-$side/a.png"
  cat >"$scratch/boxes-$side/boxes.json" <<JSON
{"images": [{"id": 1, "file_name": "a.png", "width": $width, "height": $height}],
 "categories": [{"id": 1, "name": "thing"}],
 "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, $side, $side],
                  "area": $((side * side)), "iscrowd": 0}]}
JSON
  words+=(-np 1 --wdir "$scratch/boxes-$side" "$BINARY" train "$scratch/coco.yaml"
    --out "$scratch/boxes" data.root=. data.train.annotations=boxes.json train.batch=2
    runtime.threads=1 :)
done
expect 78 'ranks differ: the data' "$MPIRUN" "${words[@]::${#words[@]}-1}"

expect 73 'resume' in_folder "$out" --resume never
expect 77 'train.seed' in_folder "$out" train.seed=9
expect 79 'first in' ranks 2 train "$config" --out "$scratch/diverged" "${tiny[@]}" train.batch=2 \
  train.steps=60 optimizer.lr=1000 schedule.warmup_steps=0 clip.norm=0
(ulimit -v 490000; expect 71 'memory' in_folder "$scratch/small"; exit "$failures") || failures=1

# A damaged checkpoint is not used; with no other one the run refuses to start.
printf 'x' | dd of="$out/checkpoints/step-00000002/model.h5" bs=1 seek=100000 conv=notrunc \
  status=none
expect 77 'checkpoint' in_folder "$out" train.steps=4
# Two runs in one folder.
in_folder "$scratch/busy" train.steps=1000 >/dev/null 2>&1 &
first=$!
sleep 4
expect 73 'busy' in_folder "$scratch/busy"
pkill -9 -f "$BINARY train .*--out $scratch/busy"
wait "$first" 2>/dev/null
# A full disk: the save fails, the final one ends the run.
if mkdir "$scratch/full" && mount -t tmpfs -o size=1m tmpfs "$scratch/full" 2>/dev/null; then
  expect 74 '' in_folder "$scratch/full/run"
  umount "$scratch/full"
else
  echo "skipped: 74 on a full disk needs root"
fi
finish
