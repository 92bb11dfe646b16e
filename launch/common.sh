# shellcheck shell=bash
# What the scripts of this folder share; read with `source` from the root of the clone.

# shellcheck disable=SC2034  # used by those that read this file
readonly kExitUsage=64 kExitInputMissing=66 kExitUnavailable=69 kExitStopped=75 kExitPeerLost=76
# Every test program with cases of a GPU.
readonly kGpuTests=(test_comm test_graph test_ops test_models test_optim test_trainer
  test_trainer_gpu)

dry_run=0                # 1: commands are printed, not run
program=${0##*/}

# say TEXT: what happens now, on stderr, so that stdout stays the ranks' own.
say() { printf 'launch/%s: %s\n' "$program" "$*" >&2; }

# die CODE TEXT
die() {
  say "error: $2"
  exit "$1"
}

# show COMMAND...: as it could be typed.
show() {
  local line
  printf -v line ' %q' "$@"
  printf '+%s\n' "$line"
}

# run COMMAND...
run() {
  if ((dry_run)); then show "$@"; else "$@"; fi
}

# script NAME ARGUMENT...: another script of this folder; in a dry run it prints its own
# commands.
script() {
  local name=$1
  shift
  if ((dry_run)); then
    show "launch/$name" "$@"
    "launch/$name" --dry-run "$@"
  else
    "launch/$name" "$@"
  fi
}

# install_packages NAME...: with apt, only those that are missing: no network when none is.
install_packages() {
  local package missing=() as_root=()
  if ! command -v dpkg-query >/dev/null; then
    say "no Debian package system here: these must be present by other means: $*"
    return
  fi
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "$kExitUnavailable" \
      "packages are missing and there is no sudo; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${#missing[@]} packages: ${missing[*]}"
  run "${as_root[@]}" apt-get update -qq
  run "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# can_stop PID: whether the supervised process would act on a request by now.
can_stop() { true; }

# supervise SIGNAL COMMAND...: runs COMMAND and returns its exit code. INT, TERM, HUP and USR1 reach
# it as SIGNAL, and so does the death of this script. It gets a session of its own, because a
# terminal's Ctrl-C would otherwise reach it as INT as well. A request that ends it before it can
# catch signals gives 75: nothing was begun.
supervise() {
  local signal=$1 child='' code again requested=0
  shift
  trap 'again=1 requested=1; request_stop "$signal" "$child"' INT TERM HUP USR1
  setsid setpriv --pdeathsig "$signal" "$@" </dev/null &
  child=$!
  ((!requested)) || request_stop "$signal" "$child"
  while :; do  # a signal interrupts wait
    again=0 code=0
    wait "$child" || code=$?
    ((again)) || break
  done 2>/dev/null
  trap - INT TERM HUP USR1
  ((!requested || code != 128 + $(kill -l "$signal"))) || code=$kExitStopped
  return "$code"
}

# request_stop SIGNAL PID: as soon as it will be heard, at the latest after 10 s.
request_stop() {
  local _
  for _ in {1..100}; do
    [[ $2 && -e /proc/$2 ]] || return 0
    ! can_stop "$2" || break
    sleep 0.1
  done
  kill -s "$1" "$2" 2>/dev/null || true
}
