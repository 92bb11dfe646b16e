#!/usr/bin/env bash
# A request to stop is heard within seconds wherever a run is, by whichever rank; verbs that have
# nothing to save end at once.
. "$(dirname "$0")/common.sh"

train() {
  local n=$1 out=$2
  ranks "$n" train "$config" --out "$out" "${tiny[@]}" train.batch=4 train.steps=4 \
    data.val.limit=20000 eval.every_steps=2 >"$scratch/log" 2>&1
}
# await PATTERN FILE: until a line of the file matches, at most a minute.
await() {
  for _ in {1..600}; do
    grep -q "$1" "$2" 2>/dev/null && return
    sleep 0.1
  done
  fail "no '$1' in $2: $(tail -3 "$scratch/log")"
}
# seconds COMMAND...: how long it took, in $took; its exit code.
seconds() {
  local start=$SECONDS code
  "$@"
  code=$?
  took=$((SECONDS - start))
  return "$code"
}

# One rank of two is asked, inside the evaluation after step 2, which takes a minute.
train 2 "$scratch/asked" &
launcher=$!
await '"step":2' "$scratch/asked/metrics.jsonl"
sleep 1
kill -USR1 "$(pgrep -f "^$BINARY train .*--out $scratch/asked" | tail -1)"
seconds wait "$launcher"
code=$?
[ "$code" -eq 75 ] || fail "USR1: exit code $code instead of 75: $(tail -3 "$scratch/log")"
[ "$took" -lt 10 ] || fail "USR1 in an evaluation: $took s"
grep -q 'after step 2; step 2 is saved in ' "$scratch/log" || fail "$(tail -3 "$scratch/log")"
[ -d "$scratch/asked/checkpoints/step-00000002" ] || fail "nothing saved"
grep -q '"split"' "$scratch/asked/metrics.jsonl" && fail "an evaluation that was given up counts"

# Nothing to save: the system's own end.
for signal in TERM USR1; do
  "$BINARY" bench "$config" --steps 1000000 "${tiny[@]}" train.batch=4 >"$scratch/log" 2>&1 &
  bench=$!
  sleep 2
  kill -"$signal" "$bench"
  seconds wait "$bench"
  code=$?
  [ "$code" -gt 128 ] || fail "bench, $signal: exit code $code"
  [ "$took" -lt 10 ] || fail "bench, $signal: $took s"
done
finish
