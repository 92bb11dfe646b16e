#!/usr/bin/env bash
# The bundle: what it holds, and that it trains, evaluates and starts ranks on a machine that has
# glibc and a shell alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/launch/common.sh
source tests/launch/common.sh

build=$(dirname "${RIDGELINE_BINARY:?the program to pack}")
expect_code 0 launch/package --dry-run --build "$build" --out "$scratch/out"
expect_text "tar -czf"
expect_code 66 launch/package --build "$scratch"
expect_text "no $scratch/ridgeline; launch/build"

# With the tests, where this build has them.
# shellcheck source=launch/common.sh
mapfile -t tests < <(source launch/common.sh && printf '%s\n' "${kGpuTests[@]}")
with_tests=(--tests)
for name in "${tests[@]}"; do [[ -x $build/$name ]] || with_tests=(); done
expect_code 0 launch/package --build "$build" --out "$scratch/out" "${with_tests[@]}"
expect_text "MiB of 60"
mkdir "$scratch/moved"
tar -xf "$scratch/out/ridgeline.tar.gz" -C "$scratch/moved"
rm -r "$scratch/out"
bundle=$scratch/moved/ridgeline
for library in libmpi.so.40 libhdf5_serial.so.103 libdnnl.so.2 libgomp.so.1 libstdc++.so.6; do
  [[ -e $bundle/lib/$library ]] || fail "no $library"
done
[[ -s $bundle/licenses/ridgeline && -e $bundle/licenses/libopenmpi3 ]] || fail "no licenses"
[[ $(patchelf --print-rpath "$bundle/bin/ridgeline") == "\$ORIGIN/../lib" ]] ||
  fail "not relocatable"

# Starts from anywhere, by a link too, without any environment.
ln -s "$bundle/ridgeline" "$scratch/ridgeline"
expect_code 0 env -i "$scratch/ridgeline" doctor
expect_text "onednn"
expect_code 64 env -i "$scratch/ridgeline" trian

# Another CPU is refused before the first illegal instruction.
cp "$bundle/cpu-features.txt" "$scratch/features"
echo avx9000 >>"$bundle/cpu-features.txt"
expect_code 69 "$bundle/ridgeline" doctor
expect_text "this CPU has no avx9000"
mv "$scratch/features" "$bundle/cpu-features.txt"

# NVIDIA's libraries come from the machine, wherever it has them; without them: one line.
cp -r "$bundle" "$scratch/gpu"
cc -shared -x c /dev/null -Wl,-soname,libcudart.so.13000 -o "$scratch/libcudart.so.13000"
patchelf --add-needed libcudart.so.13000 "$scratch/gpu/bin/ridgeline"
echo libcudart.so.13000 >"$scratch/gpu/nvidia-libraries.txt"
expect_code 69 "$scratch/gpu/ridgeline" doctor
expect_text "no libcudart.so.13000 on this machine"
mkdir -p "$scratch/cuda/lib64" "$scratch/site/nvidia/cu13/lib"
cp "$scratch/libcudart.so.13000" "$scratch/cuda/lib64/"
CUDA_HOME=$scratch/cuda expect_code 0 "$scratch/gpu/ridgeline" doctor
mv "$scratch/libcudart.so.13000" "$scratch/site/nvidia/cu13/lib/"
fake python3 <<BODY
echo "$scratch/site"
BODY
PATH=$scratch/bin:$PATH expect_code 0 "$scratch/gpu/ridgeline" doctor

unshare --mount true 2>/dev/null || skip "the bare machine needs root that may mount"
# A machine with glibc, a shell and what the start script calls; no MPI, no HDF5, no compiler.
bare=$scratch/bare
mkdir -p "$bare"/{proc,sys,dev,tmp,lib64,usr/bin}
for tool in bash env dirname readlink sed ls; do cp "$(command -v "$tool")" "$bare/usr/bin/"; done
ln -s usr/bin "$bare/bin"
copy() { cp --parents -L "$@" "$bare/"; }
dpkg -L libc6 | grep '/lib.*\.so' | while read -r file; do copy "$file"; done
ldd "$bare"/usr/bin/* | awk '$3 ~ /^\// {print $3}' | sort -u |
  while read -r file; do copy "$file"; done
mv "$bundle" "$bare/tmp/ridgeline"
cat >"$bare/tmp/work" <<'BODY'
set -euo pipefail
cd /tmp
settings=(configs/retinanet_r18_fpn_shapes.yaml data.size=[64,64] data.train.limit=4
  data.val.limit=2 train.batch=2 train.micro_batch=1 train.steps=2)
settings[0]=ridgeline/${settings[0]}
ridgeline/ridgeline train "${settings[@]}" --out alone
ridgeline/ridgeline eval "${settings[@]}" --checkpoint alone --out alone/evaluation
ridgeline/mpirun -q --allow-run-as-root --oversubscribe -np 2 \
  ridgeline/ridgeline train "${settings[@]}" runtime.threads=1 --out together
ls alone/evaluation together/checkpoints
# A test finds what it compares with.
[[ ! -e ridgeline/test_optim ]] || ridgeline/test_optim --gtest_brief=1 --gtest_filter=PyTorch.*
ridgeline/mpirun --allow-run-as-root -np 1 nowhere 2>&1 || true  # in words of share/openmpi
BODY
cat >"$scratch/enter" <<'BODY'
for folder in proc sys dev; do mount --rbind "/$folder" "$1/$folder"; done
exec chroot "$1" /usr/bin/env -i /bin/bash /tmp/work
BODY
expect_code 0 unshare --mount bash "$scratch/enter" "$bare"
expect_text "device cpu"
expect_text "2 ranks x 1 thread"
expect_text "metrics.json"
expect_text "step-00000002"
expect_text "mpirun was unable to find the specified executable file"
