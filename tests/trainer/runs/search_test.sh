#!/usr/bin/env bash
# A search killed with SIGKILL, stopped by USR1 and continued on other rank counts repeats no
# finished trial and ends in the numbers of the undisturbed one.
. "$(dirname "$0")/common.sh"

search() {
  local n=$1 out=$2
  ranks "$n" search "$config" --over regularization.l2=1e-5..1e-2:log:3 --folds 2 --out "$out" \
    "${tiny[@]}" data.train.limit=8 train.batch=2 train.steps=4 >"$scratch/log" 2>&1
}
# Finished trials and their numbers, without the seconds.
trials() { grep ',done,' "$1/trials.csv" | cut -d, -f1-9 | sort; }

search 1 "$scratch/whole" || fail "undisturbed search: $(tail -3 "$scratch/log")"
[ "$(trials "$scratch/whole" | wc -l)" -eq 6 ] || fail "not 6 trials: $(trials "$scratch/whole")"
for file in result.json curve.svg; do
  [ -s "$scratch/whole/$file" ] || fail "no $file"
done
grep -q best "$scratch/log" || fail "no table: $(cat "$scratch/log")"

search 2 "$scratch/killed" &
launcher=$!
sleep 3
pkill -9 -f "^$BINARY search .*--out $scratch/killed"
wait "$launcher"
search 2 "$scratch/killed" &
launcher=$!
sleep 2
pkill -USR1 -f "^$BINARY search .*--out $scratch/killed"
wait "$launcher"
code=$?
[ "$code" -eq 75 ] || [ "$code" -eq 0 ] || fail "USR1: $code: $(tail -3 "$scratch/log")"
search 1 "$scratch/killed" || fail "continued search: $(tail -3 "$scratch/log")"
[ "$(trials "$scratch/killed")" = "$(trials "$scratch/whole")" ] ||
  fail "other numbers: $(diff <(trials "$scratch/killed") <(trials "$scratch/whole"))"

expect 77 "another search" ranks 1 search "$config" --over regularization.l2=1e-5..1e-2:log:4 \
  --folds 2 --out "$scratch/whole" "${tiny[@]}" data.train.limit=8 train.batch=2 train.steps=4
expect 64 "do not divide" ranks 3 search "$config" --over regularization.l2=0,1 \
  --ranks-per-trial 2 --out "$scratch/other" "${tiny[@]}"
expect 64 "COUNT" ranks 1 search "$config" --over regularization.l2=1e-5..1:log:1 "${tiny[@]}"
expect 64 "did you mean --folds" ranks 1 search "$config" --over regularization.l2=0,1 --fold 2
expect 78 "regularization.l2" ranks 1 search "$config" --over regularization.l3=0,1 \
  --out "$scratch/other" "${tiny[@]}"
finish
