# Sourced by the tests of whole runs: BINARY and MPIRUN come from CTest.
set -u
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_WAIT_POLICY=passive
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

config=$source_dir/configs/retinanet_r18_fpn_shapes.yaml
# Small enough for seconds, large enough for every layer: 64 px, P7 is one cell.
tiny=(runtime.threads=1 runtime.loader_threads=1 'data.size=[64,64]' data.max_boxes=16
      data.train.limit=64 data.val.limit=8 train.micro_batch=1 eval.every_epochs=0
      log.every_steps=1)

# ranks N ARGUMENT...: runs the binary on N ranks; its exit code.
ranks() {
  local n=$1
  shift
  if [ "$n" -eq 1 ]; then
    "$BINARY" "$@"
  else
    "$MPIRUN" -q --oversubscribe --bind-to none -np "$n" "$BINARY" "$@"
  fi
}

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# expect CODE PATTERN COMMAND...: exit code, and one line of ours on stderr that matches PATTERN.
expect() {
  local code=$1 pattern=$2 got lines
  shift 2
  "$@" >"$scratch/stdout" 2>"$scratch/stderr" </dev/null
  got=$?
  [ "$got" -eq "$code" ] || fail "exit code $got instead of $code: $*: $(tail -3 "$scratch/stderr")"
  [ "$code" -eq 0 ] && return
  lines=$(grep -c '^ridgeline: error' "$scratch/stderr")
  [ "$lines" -eq 1 ] || fail "$lines lines of ours instead of 1: $*"
  grep -q "^ridgeline: error $code: .*$pattern" "$scratch/stderr" ||
    fail "no '$pattern' in: $(cat "$scratch/stderr")"
}

finish() {
  [ "$failures" -eq 0 ] && echo "all as expected"
  exit "$((failures > 0))"
}
