#!/usr/bin/env bash
# gpu-check: what it says without a GPU, its table, and that each check can fail; and what doctor
# makes of drivers, which a library of the driver's name pretends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/launch/common.sh
source tests/launch/common.sh

binary=${RIDGELINE_BINARY:?the program}
expect_code 64 launch/gpu-check --only parity,nonsense
expect_text "unknown part 'nonsense'"
expect_code 64 launch/gpu-check --steps many
expect_code 66 launch/gpu-check --build "$scratch"
expect_text "no $scratch/ridgeline; launch/build cuda --tests makes it"

expect_code 0 launch/gpu-check --dry-run
for name in comm graph ops models optim trainer trainer_gpu; do
  expect_text "+ $PWD/build-cuda/test_$name "
done
expect_text "--parity --steps 2 data.size="
expect_text "model.norm=frozen runtime.precision=fp32"
expect_text "model.norm=frozen runtime.precision=bf16"
expect_text "-np 2 --oversubscribe"
expect_text "gpu_step.py compile fcn resnet50 21 batch 5 520 32"
expect_text "gpu_step.py eager retinanet resnext50_32x4d 264 frozen 3 800 32"

mkdir "$scratch/build"
ln -s "$binary" "$scratch/build/ridgeline"
check=(launch/gpu-check --build "$scratch/build")
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
if "$binary" doctor --json | grep -q '"device auto": "cpu: '; then
  expect_code 69 "${check[@]}"
  expect_text "no GPU to check: "
  [[ $output != *$'\n'* ]] || fail "more than one line: $output"
fi

# The checks themselves, on the CPU.
expect_code 0 "${check[@]}" --rehearse --steps 2 --no-compile --out "$scratch/logs" \
  --only tests,parity,determinism,resume,ranks
expect_text "tests        skipped  no test_ops"
expect_text "parity       skipped  a CPU alone"
for part in determinism resume ranks; do
  grep -Eq "^$part +passed +.*: the same bytes" "$scratch/logs/report.txt" ||
    fail "$part: $output"
done

# And on a pretended GPU, where the build has one: everything but the numbers.
software=${binary%/*}/tests/software_gpu/ridgeline_software_gpu
if [[ -x $software ]]; then
  expect_code 0 launch/gpu-check --build "${binary%/*}" --rehearse --steps 1 --no-compile \
    --out "$scratch/software-logs" --only parity
  expect_text "on cuda, a rehearsal"
  for norm in batch frozen; do
    for precision in fp32 bf16; do
      expect_text "parity       passed   norm $norm, $precision: parity: "
    done
  done
  fake ridgeline_software_gpu <<BODY
[[ "\$*" != *--parity*norm=frozen* ]] || { echo "error 70: first in conv1" >&2; exit 70; }
[[ "\$*" != *--parity* ]] || { echo "parity: all agree"; exit; }
exec "$software" "\$@"
BODY
  ln -s "$scratch/bin/ridgeline_software_gpu" "$scratch/build/"
  expect_code 1 "${check[@]}" --rehearse --only parity
  expect_text "parity       passed   norm batch, bf16: parity: all agree"
  expect_text "parity       FAILED   norm frozen, bf16: error 70: first in conv1"
  rm "$scratch/build/ridgeline_software_gpu"
fi

# Runs that differ, tests that fail, a program that stops: each is told, the rest goes on.
fake pretender <<BODY
[[ "\$*" != */second* ]] || exec "$binary" "\$@" train.seed=2
[[ "\$*" != */resumed* ]] || { echo "the GPU fell off the bus" >&2; exit 69; }
[[ "\$*" != *bench* ]] || { sed 's/^ *//' <<<'{
  "images_per_second": 500.0,
  "step_p50_seconds": 0.064, "step_p99_seconds": 0.065,
  "first_step_seconds": 3.5,
  "memory_peak_bytes": 8589934592.0 }'; exit; }
exec "$binary" "\$@"
BODY
fake test_ops <<'BODY'
echo "[==========] 3 tests from 1 test suite ran. (7 ms total)"
echo "[  FAILED  ] Conv/Cuda.Forward/bf16, where GetParam() = 1"
exit 1
BODY
ln -sf "$scratch/bin/pretender" "$scratch/build/ridgeline"
ln -s "$scratch/bin/test_ops" "$scratch/build/test_ops"
fake python3 <<'BODY'
exit 1
BODY
PATH=$scratch/bin:$PATH expect_code 1 "${check[@]}" --rehearse \
  --only tests,determinism,resume,speed
expect_text "tests        FAILED   test_ops: 3 tests from 1 test suite"
expect_text "Conv/Cuda.Forward/bf16"
expect_text "determinism  FAILED"
expect_text "resume       FAILED   run 'resumed', exit 69: the GPU fell off the bus"
expect_text "no peers: python3 has no torch"
expect_text "500.0 images/s, step 64.00 ms (p99 65.00), first 3.5 s, peak 8.00 GiB"
fake python3 <<'BODY'
[[ $1 != -c ]] || exit 0
[[ $2 == eager ]] || { echo "CUDA out of memory" >&2; exit 1; }
echo '{"images_per_second": 200.0, "step_p50_seconds": 0.16, "step_p99_seconds": 0.2,'
echo ' "first_step_seconds": 9.0, "memory_peak_bytes": 17179869184}'
BODY
PATH=$scratch/bin:$PATH expect_code 1 "${check[@]}" --rehearse --only speed
expect_text "speed        eager    200.0 images/s"
expect_text "ours / this 2.50"
expect_text "speed        FAILED   compile: CUDA out of memory"

# Drivers. FAKE: what cuInit answers, the version, the number of devices, what cuMemGetInfo answers.
mkdir "$scratch/driver"
cc -shared -fPIC -x c - -o "$scratch/driver/libcuda.so.1" <<'BODY'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int fake(int i) {
  int v[4];
  sscanf(getenv("FAKE"), "%d %d %d %d", v, v + 1, v + 2, v + 3);
  return v[i];
}
int cuInit(unsigned flags) { return (void)flags, fake(0); }
int cuDriverGetVersion(int *v) { return *v = fake(1), 0; }
int cuDeviceGetCount(int *n) { return *n = fake(2), 0; }
int cuDeviceGet(int *d, int i) { return *d = i, 0; }
int cuDeviceGetName(char *s, int n, int d) { return snprintf(s, n, "Imaginary %d", d), 0; }
int cuDeviceGetUuid_v2(char *u, int d) { return memset(u, d + 1, 16), 0; }
int cuDeviceTotalMem_v2(size_t *b, int d) { return (void)d, *b = (size_t)80 << 30, 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { return (void)d, *v = a == 75 ? 9 : 0, 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { return (void)d, *c = c, 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { return (void)d, 0; }
int cuCtxPushCurrent_v2(void *c) { return (void)c, 0; }
int cuCtxPopCurrent_v2(void **c) { return *c = 0, 0; }
int cuMemGetInfo_v2(size_t *f, size_t *t) { return *f = *t = (size_t)79 << 30, fake(3); }
int cuGetErrorString(int e, const char **s) { return (void)e, *s = "imaginary trouble", 0; }
BODY
# with_driver FAKE COMMAND...
with_driver() {
  local fake=$1
  shift
  FAKE=$fake LD_LIBRARY_PATH=$scratch/driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$@"
}
expect_code 0 with_driver "0 13000 2 0" "$binary" doctor
expect_text "serves CUDA 13.0"
expect_text "cuda:1"
expect_text "Imaginary 1, 80.0 GiB (79.0 GiB free), compute capability 9.0"
expect_code 0 with_driver "100 13000 0 0" env CUDA_VISIBLE_DEVICES= "$binary" doctor
expect_text "wrong: CUDA_VISIBLE_DEVICES='' leaves no GPU"
expect_code 0 with_driver "999 13000 0 0" "$binary" doctor
expect_text "wrong: the NVIDIA driver does not start: imaginary trouble (CUDA error 999)"
expect_code 0 with_driver "0 13000 1 214" "$binary" doctor
expect_text "wrong: cuda:0 (Imaginary 0) cannot be used: imaginary trouble (CUDA error 214)"
