#!/usr/bin/env bash
# model.norm: sync: the statistics are those of the global batch, so ranks change no bit, a run can
# go on elsewhere, and one rank's error ends all.
. "$(dirname "$0")/common.sh"

file=checkpoints/step-00000006/model.h5
# train N OUT SETTING...: six steps of five micro-batches on N ranks.
train() {
  local n=$1 out=$2
  shift 2
  ranks "$n" train "$config" --out "$out" "${tiny[@]}" model.norm=sync train.batch=5 \
    train.steps=6 optimizer.name=sgd optimizer.lr=0.01 "$@" >"$scratch/log" 2>&1
}

for n in 1 2 3; do
  train "$n" "$scratch/ranks-$n" || fail "$n ranks: $(tail -3 "$scratch/log")"
  cmp "$scratch/ranks-1/$file" "$scratch/ranks-$n/$file" || fail "$n ranks: other bits than 1 rank"
done
# Without clipping buckets are updated during the backward pass.
for n in 1 2; do
  train "$n" "$scratch/open-$n" clip.norm=0 || fail "$n ranks, no clip: $(tail -3 "$scratch/log")"
  cmp "$scratch/open-1/$file" "$scratch/open-$n/$file" || fail "$n ranks, no clip: other bits"
done
# It is another network than that of norm: batch.
train 1 "$scratch/batch" model.norm=batch || fail "batch: $(tail -3 "$scratch/log")"
cmp -s "$scratch/batch/$file" "$scratch/ranks-1/$file" && fail "sync is batch"

# Stopped after three steps and continued on another number of ranks.
train 2 "$scratch/resumed" checkpoint.every_steps=3 || fail "resume: $(tail -3 "$scratch/log")"
rm -rf "$scratch/resumed"/checkpoints/step-00000006*
rm -f "$scratch/resumed"/checkpoints/{last,latest}
train 3 "$scratch/resumed" checkpoint.every_steps=3 || fail "resumed: $(tail -3 "$scratch/log")"
grep -q 'step-00000003\|resum\|continu' "$scratch/log" || fail "not resumed: $(cat "$scratch/log")"
cmp "$scratch/ranks-1/$file" "$scratch/resumed/$file" || fail "resumed: other bits"

# A loss that is not finite on some ranks ends all of them.
expect 79 'step' ranks 2 train "$config" --out "$scratch/diverged" "${tiny[@]}" model.norm=sync \
  train.batch=3 train.steps=60 optimizer.name=sgd optimizer.lr=1000 schedule.warmup_steps=0 \
  clip.norm=0
# The plan is printed.
"$BINARY" plan "$config" "${tiny[@]}" model.norm=sync train.batch=2 >"$scratch/plan" 2>&1 ||
  fail "plan: $(tail -3 "$scratch/plan")"
grep -q 'backward .*sync_moments' "$scratch/plan" || fail "no sync_moments in the plan"
finish
