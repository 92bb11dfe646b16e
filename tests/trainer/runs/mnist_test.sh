#!/usr/bin/env bash
# A perceptron learns MNIST from the IDX files: 97.5 % of the test digits.
# shellcheck source=tests/trainer/runs/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

data=${RIDGELINE_DATA:-$source_dir/../shared/data}
if [ ! -d "$data/mnist" ]; then
  echo "skipped: no mnist in $data"
  exit 77
fi

RIDGELINE_DATA=$data expect 0 '' ranks 2 train "$source_dir/configs/mlp_mnist.yaml" \
  --out "$scratch/run" runtime.threads=1
metrics=$(find "$scratch/run/eval" -name metrics.json | sort | tail -n 1)
accuracy=$(sed -n 's/^.*"accuracy": *\([0-9.]*\).*$/\1/p' "$metrics" | head -n 1)
echo "accuracy on the test digits: ${accuracy:-none}"
awk -v accuracy="${accuracy:-0}" 'BEGIN { exit !(accuracy >= 0.975) }' ||
  fail "accuracy ${accuracy:-0} is below 0.975"
finish
