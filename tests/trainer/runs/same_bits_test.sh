#!/usr/bin/env bash
# reduction: exact: a run gives the same files, bit for bit, on 1, 2, 3, 4 and 8 ranks.
. "$(dirname "$0")/common.sh"

for n in 1 2 3 4 8; do
  ranks "$n" train "$config" --out "$scratch/ranks-$n" "${tiny[@]}" train.batch=24 \
    train.steps=20 clip.norm=0 >"$scratch/log" 2>&1 || fail "$n ranks: $(tail -3 "$scratch/log")"
  file=checkpoints/step-00000020/model.h5
  cmp "$scratch/ranks-1/$file" "$scratch/ranks-$n/$file" || fail "$n ranks: other bits than 1 rank"
done
# With clipping the update waits for the norm over all buckets: another path, the same promise.
for n in 1 3; do
  ranks "$n" train "$config" --out "$scratch/clip-$n" "${tiny[@]}" train.batch=6 train.steps=4 \
    clip.norm=0.1 optimizer.name=adam optimizer.lr=1e-4 ema.decay=0.9 >"$scratch/log" 2>&1 ||
    fail "$n ranks with clipping: $(tail -3 "$scratch/log")"
  for file in model.h5 model-ema.h5; do
    cmp "$scratch/clip-1/checkpoints/step-00000004/$file" \
      "$scratch/clip-$n/checkpoints/step-00000004/$file" || fail "$n ranks with clipping: $file"
  done
done
# Segmentation, whose dropout draws by sample.
for n in 1 2 3 4; do
  ranks "$n" train "$config" --out "$scratch/fcn-$n" "${tiny[@]}" train.batch=4 train.steps=4 \
    'model={name: fcn, backbone: resnet18, head: 8s, dropout: 0.2}' >"$scratch/log" 2>&1 ||
    fail "$n ranks, fcn: $(tail -3 "$scratch/log")"
  file=checkpoints/step-00000004/model.h5
  cmp "$scratch/fcn-1/$file" "$scratch/fcn-$n/$file" || fail "$n ranks, fcn: other bits than 1 rank"
done
grep -q $'\r' "$scratch/log" && fail "a progress bar in a file"
# The comparison can fail: another seed gives other bits.
ranks 1 train "$config" --out "$scratch/seed" "${tiny[@]}" train.batch=6 train.steps=4 \
  train.seed=2 optimizer.name=adam optimizer.lr=1e-4 >/dev/null 2>&1
cmp -s "$scratch/seed/checkpoints/step-00000004/model.h5" \
  "$scratch/clip-1/checkpoints/step-00000004/model.h5" && fail "another seed gave the same bits"
finish
