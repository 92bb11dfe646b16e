#!/usr/bin/env bash
# Predicted label maps as files: by `eval` on two ranks each image's, by `predict`, never by the
# evaluations of a run; `score` takes either folder.
. "$(dirname "$0")/common.sh"

fcn=("$source_dir/configs/fcn_r18_8s_nuclei.yaml" model.num_classes=4 runtime.threads=1
     'data={format: shapes, train: {limit: 2}, val: {limit: 3}, size: [64,64]}')
found() { (cd "$scratch/$1" && echo *); }
# quietly NAME COMMAND...
quietly() {
  local name=$1
  shift
  "$@" >"$scratch/log" 2>&1 || fail "$name: $(tail -3 "$scratch/log")"
}
# score LABELS PREDICTIONS: these are their own labels.
score() {
  quietly "score $2" "$BINARY" score --labels "$scratch/$1" --predictions "$scratch/$2" \
    --num-classes 4 --out "$scratch/score.json"
  grep -q '"pixel_accuracy": 1.0' "$scratch/score.json" || fail "$2: $(cat "$scratch/score.json")"
}

quietly train ranks 1 train "${fcn[@]}" --out "$scratch/run" train.batch=2 train.micro_batch=1 \
  train.steps=1 eval.every_steps=1 eval.every_epochs=0
[ -s "$scratch/run/eval/step-00000001/metrics.json" ] || fail "not evaluated"
[ -e "$scratch/run/eval/step-00000001/predictions" ] && fail "label maps while training"

mkdir -p "$scratch/eval/predictions"
touch "$scratch/eval/predictions/old.png" "$scratch/eval/predictions/notes.txt"
quietly eval ranks 2 eval "${fcn[@]}" --checkpoint "$scratch/run" --out "$scratch/eval"
[ "$(found eval/predictions)" = "0.png 1.png 2.png notes.txt" ] || fail "$(found eval/predictions)"
rm "$scratch/eval/predictions/notes.txt"
score eval/predictions eval

quietly predict ranks 2 predict "${fcn[@]}" --checkpoint "$scratch/run" --out "$scratch/out" \
  "$scratch/eval/predictions.png" "$scratch/eval/predictions/0.png"
[ "$(found out)" = "0.png predictions predictions.json predictions.png" ] || fail "$(found out)"
[ "$(found out/predictions)" = "0.png predictions.png" ] || fail "predict: $(found out/predictions)"
grep -q '"label_map": *"predictions/0.png"' "$scratch/out/predictions.json" ||
  fail "$(cat "$scratch/out/predictions.json")"
score out/predictions out
finish
