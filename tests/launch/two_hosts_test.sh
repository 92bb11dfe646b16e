#!/usr/bin/env bash
# launch/run over two hosts: network namespaces joined by a cable, made here and removed at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/launch/common.sh
source tests/launch/common.sh

((EUID == 0)) || skip "network namespaces need root"
command -v ip >/dev/null || skip "no ip (package iproute2)"
lab=ridgeline-$$
ip netns add "$lab-a" 2>/dev/null || skip "no network namespaces here"

remove_lab() {
  local name pid
  for name in "$lab-a" "$lab-b"; do
    for pid in $(ip netns pids "$name" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
    ip netns delete "$name" 2>/dev/null || true
  done
  rm -rf "$scratch"
}
on_exit=(remove_lab)

ip netns add "$lab-b"
ip -n "$lab-a" link add cable type veth peer name cable netns "$lab-b" 2>/dev/null ||
  skip "no veth devices here"
for host in a:10.99.7.1 b:10.99.7.2; do
  ip -n "$lab-${host%:*}" address add "${host#*:}/24" dev cable
  ip -n "$lab-${host%:*}" link set cable up
  ip -n "$lab-${host%:*}" link set lo up
done

# In place of ssh: HOST COMMAND...; the namespace gets a host name of its own.
fake remote_shell <<BODY
host=\$1
shift
case \$host in
  10.99.7.1) name=a ;;
  10.99.7.2) name=b ;;
  *) exit 255 ;;
esac
code=0
ip netns exec "$lab-\$name" unshare --uts sh -c "hostname host-\$name; \$*" || code=\$?
[ ! -e "$scratch/cut" ] || sleep 30  # ssh would not hear of it
exit \$code
BODY
export OMPI_MCA_plm_rsh_agent=$scratch/bin/remote_shell

# on_a COMMAND...: becomes the command. REQUIRES: called in a subshell.
on_a() { exec ip netns exec "$lab-a" unshare --uts bash -c 'hostname host-a; exec "$@"' on_a "$@"; }
on_two_hosts=(on_a launch/run --hosts "10.99.7.1,10.99.7.2")

# The communicator between the hosts, and an error of the far one.
expect_code 0 "${on_two_hosts[@]}" -np 4 --binary "$FAULT_PROGRAM" 100 20000 none 0
expect_code 65 "${on_two_hosts[@]}" -np 2 --binary "$FAULT_PROGRAM" 100000 20000 throw 1
expect_code 76 "${on_two_hosts[@]}" -np 2 --binary "$FAULT_PROGRAM" 100000 2000 stuck 1
expect_text "host-b"

# expect_end CODE SECONDS
expect_end() {
  local code=0 begin=$SECONDS
  wait "$job" || code=$?
  ((code == $1)) || fail "exit $code instead of $1: $(cat "$scratch/log")"
  ((SECONDS - begin <= $2)) || fail "took $((SECONDS - begin)) s"
}

# A host that cannot be reached, or where nothing can be started; and too few places.
expect_code 69 launch/run --hosts 10.99.7.1,10.99.7.3 -np 2 --binary "$FAULT_PROGRAM" 1 1000 none 0
expect_text "error: no ranks on 10.99.7.1,10.99.7.3"
expect_code 64 launch/run --hosts 10.99.7.1:1 -np 2 --binary "$FAULT_PROGRAM" 1 1000 none 0
expect_text "room for 1 ranks"

# A request while the job starts is kept until the ranks can hear it.
"${on_two_hosts[@]}" -np 2 --binary "$FAULT_PROGRAM" 100000 60000 none 0 >"$scratch/log" 2>&1 &
job=$!
until ip netns pids "$lab-a" | xargs -r ps -o comm= -p | grep -q mpirun; do sleep 0.01; done
kill -TERM "$job"
expect_end 75 20

# start: a long job in the background. Sets `job`.
start() {
  : >"$scratch/log"  # the job before this one was running, too
  "${on_two_hosts[@]}" -np 2 --binary "$FAULT_PROGRAM" 100000 60000 none 0 >"$scratch/log" 2>&1 &
  job=$!
  for _ in {1..300}; do
    ! grep -q '^running$' "$scratch/log" || return 0
    sleep 0.1
  done
  fail "the job did not start: $(cat "$scratch/log")"
}

start
kill -TERM "$job"
expect_end 75 10

# The cable is cut: noticed long before TCP would, and no rank is left on either side.
start
touch "$scratch/cut"
ip -n "$lab-a" link set cable down
expect_end 76 20
sleep 1
left=$(ip netns pids "$lab-b" | wc -l)
((left == 0)) || fail "$left processes left on the far host"
