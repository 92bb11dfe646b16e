#!/usr/bin/env bash
# Searches by successive halving and over random candidates, killed with SIGKILL in the middle of a
# rung, go on where they were: no finished trial runs again, and nothing changes in the numbers.
. "$(dirname "$0")/common.sh"

# start STRATEGY OUT: a job of two ranks in the background; its process is $launcher.
start() {
  "$MPIRUN" -q --oversubscribe --bind-to none -np 2 "$BINARY" search "$config" \
    --over regularization.l2=1e-6..1e-1:log:9 --strategy "$1" --trials 3 --out "$2" "${tiny[@]}" \
    'model={name: fcn, backbone: resnet18, head: 32s}' 'optimizer={name: sgd, lr: 0.01}' \
    'data.size=[32,32]' data.train.limit=6 data.val.limit=2 train.batch=2 train.steps=3 \
    >"$scratch/log" 2>&1 </dev/null &
  launcher=$!
}
whole() {
  start "$1" "$2"
  wait "$launcher" || fail "$1: $(tail -3 "$scratch/log")"
}
done_lines() { grep -s ',done,' "$1/trials.csv" | sort; }
# Without the seconds.
numbers() { done_lines "$1" | cut -d, -f1-9; }
# kill_after COUNT OUT: when so many trials are done.
kill_after() {
  local tries=0
  while [ "$(done_lines "$2" | wc -l)" -lt "$1" ] && [ "$tries" -lt 600 ]; do
    tries=$((tries + 1))
    sleep 0.05
  done
  [ "$tries" -lt 600 ] || fail "after 30 s not $1 trials are done: $(tail -3 "$scratch/log")"
  # shellcheck disable=SC2046  # two ranks
  kill -9 $(pgrep -P "$launcher") "$launcher"
  wait "$launcher" 2>/dev/null
}

# Three candidates; halving sends one of them on to three times the steps.
check() {
  local strategy=$1 trials=$2 kills=$3 out="$scratch/$1" count finished
  whole "$strategy" "$out-whole"
  [ "$(done_lines "$out-whole" | wc -l)" -eq "$trials" ] ||
    fail "$strategy: not $trials trials: $(cat "$out-whole/trials.csv")"
  for count in $kills; do
    start "$strategy" "$out"
    kill_after "$count" "$out"
    finished=$(done_lines "$out")
    [ "$(wc -l <<<"$finished")" -lt "$trials" ] || fail "$strategy: nothing was left to kill"
    cp "$out/trials.csv" "$scratch/before"
  done
  whole "$strategy" "$out"
  # The line of a finished trial holds its seconds: run again it would differ.
  [ "$(comm -12 <(echo "$finished") <(done_lines "$out"))" = "$finished" ] ||
    fail "$strategy: ran again: $(diff "$scratch/before" "$out/trials.csv")"
  [ "$(numbers "$out")" = "$(numbers "$out-whole")" ] ||
    fail "$strategy: other numbers: $(diff <(numbers "$out") <(numbers "$out-whole"))"
  cmp <(sed 's/"seconds":[^,}]*//' "$out/result.json") \
    <(sed 's/"seconds":[^,}]*//' "$out-whole/result.json") || fail "$strategy: another result"
}

check random 3 1
check halving 4 "1 3"  # in the first rung, and in the second
finish
