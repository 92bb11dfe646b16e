# shellcheck shell=bash
# For the tests of the scripts: read with `source` from the root of the clone.

scratch=$(mktemp -d)
on_exit=(rm -rf "$scratch")
trap '"${on_exit[@]}"' EXIT
trap 'exit 1' INT TERM HUP

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# skip REASON: ctest shows the test as skipped.
skip() {
  echo "skipped: $*"
  exit 77
}

# expect_code CODE COMMAND...: runs it; `output` holds its stdout and stderr.
expect_code() {
  local expected=$1 code=0
  shift
  output=$("$@" 2>&1 </dev/null) || code=$?
  ((code == expected)) || fail "exit $code instead of $expected: $*"$'\n'"$output"
}

# expect_text TEXT: is part of `output`.
expect_text() { [[ $output == *"$1"* ]] || fail "no '$1' in:"$'\n'"$output"; }
expect_no_text() { [[ $output != *"$1"* ]] || fail "'$1' in:"$'\n'"$output"; }

# fake NAME: a program of this name with the body on stdin; goes into $scratch/bin.
fake() {
  mkdir -p "$scratch/bin"
  { echo '#!/usr/bin/env bash'; cat; } >"$scratch/bin/$1"
  chmod +x "$scratch/bin/$1"
}

# copy_scripts: a tree with the scripts alone in $scratch/tree.
copy_scripts() {
  mkdir -p "$scratch/tree"
  cp -r launch "$scratch/tree/"
}
