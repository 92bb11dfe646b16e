#!/usr/bin/env bash
# A run killed with SIGKILL at arbitrary moments and continued on other rank counts ends in the same
# bits as the undisturbed run.
. "$(dirname "$0")/common.sh"

train() {
  local n=$1 out=$2
  ranks "$n" train "$config" --out "$out" "${tiny[@]}" train.batch=4 train.steps=24 \
    checkpoint.every_steps=2 >"$scratch/log" 2>&1
}

train 1 "$scratch/whole" || fail "undisturbed run: $(tail -3 "$scratch/log")"
moment=0
for n in 2 3 1 4 2 1; do
  train "$n" "$scratch/killed" &
  launcher=$!
  moment=$((moment + 1))
  sleep "$((1 + moment % 3)).$((moment * 37 % 100))"
  pkill -9 -f "$BINARY train .*--out $scratch/killed"
  wait "$launcher" && break  # it had finished
done
train 2 "$scratch/killed" || fail "continued run: $(tail -3 "$scratch/log")"
for file in model.h5; do
  cmp "$scratch/whole/checkpoints/step-00000024/$file" \
    "$(echo "$scratch"/killed/checkpoints/step-00000024*)/$file" || fail "$file: other bits"
done

# Stopping on request: checkpoint, 75, and the same command goes on.
train 2 "$scratch/asked" &
launcher=$!
sleep 4
pkill -USR1 -f "^$BINARY train .*--out $scratch/asked"
wait "$launcher"
code=$?
[ "$code" -eq 75 ] || fail "USR1: exit code $code instead of 75: $(tail -3 "$scratch/log")"
train 3 "$scratch/asked" || fail "after USR1: $(tail -3 "$scratch/log")"
cmp "$scratch/whole/checkpoints/step-00000024/model.h5" \
  "$(echo "$scratch"/asked/checkpoints/step-00000024*)/model.h5" || fail "after USR1: other bits"

# An early stop is an end: the same command trains no further. Averages of weights resume as well.
early() {
  ranks 1 train "$config" --out "$scratch/early" "${tiny[@]}" train.batch=4 train.steps=24 \
    data.val.limit=2 eval.every_steps=1 train.early_stop=2 optimizer.lr=1e-12 "$@" \
    >"$scratch/log" 2>&1
}
early || fail "early stop: $(tail -3 "$scratch/log")"
grep -q 'early stop: 2 evaluations' "$scratch/log" || fail "no early stop"
trained=$(grep -c '"images"' "$scratch/early/metrics.jsonl")
[ "$trained" -lt 6 ] || fail "early stop after $trained steps"
early || fail "early stop, again: $(tail -3 "$scratch/log")"
[ "$(grep -c '"images"' "$scratch/early/metrics.jsonl")" -eq "$trained" ] || fail "it went on"
average() {
  ranks "$1" train "$config" --out "$scratch/average" "${tiny[@]}" train.batch=4 train.steps=4 \
    ema.decay=0.9 checkpoint.every_steps=2 >"$scratch/log" 2>&1 ||
    fail "ema: $(tail -3 "$scratch/log")"
}
average 1
mv "$scratch/average/checkpoints/step-00000004" "$scratch/kept"
average 2
for file in model.h5 model-ema.h5; do
  cmp "$scratch/kept/$file" "$scratch/average/checkpoints/step-00000004/$file" || fail "ema: $file"
done
finish
