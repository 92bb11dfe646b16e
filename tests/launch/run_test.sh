#!/usr/bin/env bash
# launch/run: exit codes pass through, and every request to stop becomes USR1 and 75.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/launch/common.sh
source tests/launch/common.sh

# The ranks: `exit CODE`, or `wait`, which returns 75 on USR1 and 1 on any other signal.
# By `env` the process would be called bash.
cat >"$scratch/rank" <<'RANK'
#!/bin/bash
trap 'exit 75' USR1
trap 'exit 1' INT TERM HUP
[[ $1 == wait ]] || exit "$2"
touch "$2.$OMPI_COMM_WORLD_RANK"
while :; do sleep 0.1; done
RANK
chmod +x "$scratch/rank"
ranks=(launch/run -np 2 --binary "$scratch/rank")

for code in 0 64 69 75 76 77 79; do
  expect_code "$code" "${ranks[@]}" exit "$code"
done
expect_no_text "Primary job"  # mpirun's own paragraph

# A real program that dies, and one that finds a stuck peer.
expect_code 137 launch/run -np 3 --binary "$FAULT_PROGRAM" 100000 20000 kill 1
expect_code 76 launch/run -np 3 --binary "$FAULT_PROGRAM" 100000 2000 stuck 1
expect_code 75 launch/run -np 2 --binary "$FAULT_PROGRAM" 100000 20000 signal 0

# start NAME: the waiting ranks in the background, as a terminal would start them. Sets `job`.
start() {
  # A background job of a script has INT ignored.
  env --default-signal=INT "${ranks[@]}" wait "$scratch/$1" 2>"$scratch/$1.log" &
  job=$!
  for _ in {1..300}; do
    [[ -e $scratch/$1.0 && -e $scratch/$1.1 ]] && return
    sleep 0.1
  done
  fail "the ranks did not start: $(cat "$scratch/$1.log")"
}

for signal in INT TERM HUP USR1; do
  start "$signal"
  kill -s "$signal" "$job"
  code=0 begin=$SECONDS
  wait "$job" || code=$?
  ((SECONDS - begin < 10)) || fail "$signal was handed on after the 10 s for ranks not seen"
  ((code == 75)) || fail "exit $code after $signal: $(cat "$scratch/$signal.log")"
done

# Requests at any moment of the start are heard.
for delay in 0.0 0.05 0.1 0.2 0.3 0.5; do
  "${ranks[@]}" wait "$scratch/early" 2>"$scratch/early.log" &
  job=$!
  until [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$job/cmdline") == *launch/run* ]]; do sleep 0.01; done
  sleep "$delay"
  kill -TERM "$job"
  code=0
  wait "$job" || code=$?
  # 143: before the script could catch it.
  ((code == 75 || code == 143)) || fail "exit $code, stopped after $delay s"
done

# Killed outright, it leaves nothing behind.
start KILL
mpirun_of_job=$(pgrep -P "$job" mpirun)
kill -KILL "$job"
for _ in {1..100}; do
  kill -0 "$mpirun_of_job" 2>/dev/null || break
  sleep 0.1
done
! kill -0 "$mpirun_of_job" 2>/dev/null || fail "mpirun outlived launch/run"

# More ranks than cores.
expect_code 0 launch/run -np $(($(nproc) + 2)) --binary "$scratch/rank" exit 0

# Usage.
expect_code 64 launch/run train
expect_code 64 launch/run -np two train
expect_code 64 launch/run -np 0 train
expect_code 64 launch/run -np
expect_code 64 launch/run -np 2
expect_code 64 launch/run --np 2 train
expect_text "--help"
expect_code 66 launch/run -np 2 --binary "$scratch/absent" train
expect_text "launch/build"

# Hosts without counts get equal shares, and the user's variables go along.
RIDGELINE_DATA=/x expect_code 0 launch/run --dry-run -np 5 --hosts a,b:3 train c.yaml lr=1
expect_text "a:3"
expect_text "b:3"
expect_text "-x RIDGELINE_DATA"
expect_text "train c.yaml lr=1"
