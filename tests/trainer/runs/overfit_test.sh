#!/usr/bin/env bash
# The whole chain from annotations to AP: 8 images of coco_mini are learned by heart on two ranks.
# shellcheck source=tests/trainer/runs/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

data=${RIDGELINE_DATA:-$source_dir/../shared/data}
if [ ! -d "$data/coco_mini" ]; then
  echo "skipped: no coco_mini in $data"
  exit 77
fi

overfit=$source_dir/configs/retinanet_r18_fpn_coco_mini.yaml
RIDGELINE_DATA=$data expect 0 '' ranks 2 train "$overfit" --out "$scratch/run" runtime.threads=1
metrics=$(find "$scratch/run/eval" -name metrics.json | sort | tail -1)
ap50=$(sed -n 's/^.*"AP50": *\([0-9.]*\).*$/\1/p' "$metrics" | head -n 1)
echo "AP50 on the 8 images: ${ap50:-none}"
awk -v ap50="${ap50:-0}" 'BEGIN { exit !(ap50 > 0.9) }' ||
  fail "AP50 ${ap50:-none} is not above 0.9"
finish
