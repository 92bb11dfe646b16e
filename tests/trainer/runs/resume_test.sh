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
finish
