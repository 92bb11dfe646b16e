#!/usr/bin/env bash
# launch/slurm.sbatch with a pretended Slurm: USR1 reaches the ranks, 75 alone requeues.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/launch/common.sh
source tests/launch/common.sh

export PATH=$scratch/bin:$PATH SLURM_JOB_ID=17 SLURM_NTASKS=4 SLURM_CPUS_PER_TASK=8
export SLURM_SUBMIT_DIR=$PWD SCRATCH=$scratch
unset RIDGELINE_BINARY  # the default is tested
fake scontrol <<<'echo "scontrol $*"'
fake srun <<'BODY'
[[ $1 != --mpi=list ]] || { echo "${MPI_LIST-none pmix pmi2}"; exit; }
trap "exit 75" USR1
echo "srun $* with $SRUN_CPUS_PER_TASK cores"
[[ ! ${CODE-} ]] || exit "$CODE"
touch "$SCRATCH/started"
while :; do sleep 0.1; done
BODY
job=launch/slurm.sbatch

CODE=0 expect_code 0 "$job" train c.yaml
expect_text "srun --mpi=pmix --kill-on-bad-exit=1 build/ridgeline train c.yaml with 8 cores"
expect_no_text scontrol
CODE=75 expect_code 75 "$job" train c.yaml
expect_text "scontrol requeue 17"
for code in 64 76 79; do
  CODE=$code expect_code "$code" "$job" train c.yaml
  expect_no_text scontrol
done

for signal in USR1 TERM; do
  rm -f "$scratch/started"
  "$job" train c.yaml >"$scratch/log" 2>&1 &
  for _ in {1..100}; do
    [[ ! -e $scratch/started ]] || break
    sleep 0.1
  done
  kill -s "$signal" $!
  code=0
  wait $! || code=$?
  ((code == 75)) || fail "exit $code after $signal: $(cat "$scratch/log")"
  grep -q "scontrol requeue 17" "$scratch/log" || fail "not requeued after $signal"
done

# Without PMIx mpirun starts the ranks.
MPI_LIST="none pmi2" expect_code 0 "$job" --dry-run train c.yaml
expect_text "launch/run -np 4"
RIDGELINE_BINARY=build-cuda/ridgeline expect_code 0 "$job" --dry-run train c.yaml
expect_text "build-cuda/ridgeline train c.yaml"
expect_code 64 "$job"
cd "$scratch"
SLURM_SUBMIT_DIR='' expect_code 64 "$OLDPWD/$job" train c.yaml
expect_text "submit from the clone's root"
