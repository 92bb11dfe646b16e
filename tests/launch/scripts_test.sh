#!/usr/bin/env bash
# Every script: help, dry run, wrong arguments; and the parts of build, test and quickstart that
# need no compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/launch/common.sh
source tests/launch/common.sh

for script in build test quickstart run slurm.sbatch package gpu-check; do
  expect_code 0 "launch/$script" --help
  expect_text "Usage:"
  expect_text "--dry-run"
  expect_code 64 "launch/$script" --nonsense
  expect_text "unknown"
done
if command -v shellcheck >/dev/null; then
  expect_code 0 shellcheck -x launch/{build,test,quickstart,run,slurm.sbatch,common.sh} \
    launch/{package,bundled,gpu-check} .ci/run \
    tests/launch/*.sh
else
  echo "no shellcheck: not checked"
fi

# From here with pretended tools, in a tree that holds the scripts alone.
copy_scripts
cd "$scratch/tree"
export PATH=$scratch/bin:$PATH
fake dpkg-query <<'BODY'
echo "${INSTALLED:-installed}"
BODY
fake apt-get <<'BODY'
echo "apt-get $*"
BODY
fake sudo <<'BODY'
"$@"
BODY
fake cmake <<'BODY'
echo "cmake $*"
BODY
fake ctest <<'BODY'
echo "100% tests passed, 0 tests failed out of 7"
exit "${CTEST_CODE:-0}"
BODY

# A second build asks the network for nothing; the first installs.
expect_code 0 launch/build
expect_no_text apt-get
expect_text "cmake --preset release"
expect_text "--target ridgeline"
INSTALLED=no expect_code 0 launch/build debug --tests
expect_text "apt-get install"
expect_text "libhdf5-dev"
expect_text "--preset debug"
expect_text "--target all"
INSTALLED=no expect_code 0 launch/build --dry-run
expect_text "+ "
expect_no_text $'\napt-get'
expect_code 64 launch/build fast

# cuda: what is found goes to CMake; what is not has an address.
mkdir -p toolkit/{bin,include} frontend
touch toolkit/include/{cudnn_version.h,nccl.h} frontend/cudnn_frontend.h
fake nvcc </dev/null
mv "$scratch/bin/nvcc" toolkit/bin/
CUDA_HOME=$PWD/toolkit CUDNN_FRONTEND_INCLUDE_DIR=$PWD/frontend RIDGELINE_CUDA_ARCHS=90 \
  expect_code 0 launch/build cuda
expect_text "-DCMAKE_CUDA_COMPILER=$PWD/toolkit/bin/nvcc"
expect_text "-DRIDGELINE_CUDA_ARCHS=90"
expect_text "-DCUDNN_FRONTEND_INCLUDE_DIR=$PWD/frontend"
if ((EUID == 0)); then  # hides this machine's toolkit
  fake without_toolkit <<'BODY'
mount -t tmpfs none /usr/local
PATH=$1:/usr/bin:/bin exec launch/build cuda
BODY
  without_toolkit=(unshare --mount "$scratch/bin/without_toolkit" "$scratch/bin")
  CUDA_HOME='' expect_code 69 "${without_toolkit[@]}"
  expect_text "https://developer.nvidia.com/cuda-downloads"
  rm toolkit/include/nccl.h
  CUDA_HOME=$PWD/toolkit expect_code 69 "${without_toolkit[@]}"
  expect_text "https://developer.nvidia.com/nccl"
fi

# test: goes on after a failure, ends with the summaries.
expect_code 0 launch/test
expect_text "ctest --preset asan"
[[ $output == *"0 tests failed out of 7"*"0 tests failed out of 7"*"release tests: passed"* ]] ||
  fail "the summary is not at the end: $output"
CTEST_CODE=8 expect_code 1 launch/test
expect_text "release tests: FAILED"
expect_text "asan build: passed"

# quickstart: trains, evaluates, says where things are; the first failure ends it.
mkdir build
fake mpirun <<'BODY'
echo "ranks: $*"
[[ "$*" != *" ${FAILING:-nothing} "* ]] || exit 79
out=runs/quickstart/evaluation
mkdir -p "$out"
printf '{\n  "bbox": {\n    "AP": 0.5,\n    "AP50": 0.75,\n' >"$out/metrics.json"
BODY
fake ridgeline </dev/null
mv "$scratch/bin/ridgeline" build/
expect_code 0 launch/quickstart
expect_text "train configs/retinanet_r18_fpn_shapes.yaml --out runs/quickstart"
expect_text "--checkpoint runs/quickstart/checkpoints/best"
expect_text "AP50 on shapes it has not seen: 0.75"
expect_text "runs/quickstart/pictures/"
FAILING="eval" expect_code 79 launch/quickstart
expect_no_text "pictures/"
expect_code 0 launch/quickstart --dry-run --out elsewhere
expect_text "+ mpirun"
expect_text "--out elsewhere"
expect_no_text "ranks:"
