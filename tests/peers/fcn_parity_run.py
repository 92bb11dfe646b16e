"""Runs ridgeline and torchvision's FCN from the same weights on the same batch, training batch
norm, and compares one step with PyTorch's float64 run.

A random network with training batch norm amplifies rounding, so each gradient may lie twice as far
from float64's as the farthest of PyTorch's own float32 runs. Exit code 1 beyond a tolerance.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

import torch
from PIL import Image

import common
import fcn_goldens
import hdf5
import models
import parity_run

CASE = fcn_goldens.CASES["fcn_r50_batch_norm"]
LOSS_TOLERANCE, STATISTICS_TOLERANCE, ROUNDINGS = 1e-5, 1e-4, 2.0
# a gradient of that little is rounding itself: in float64 it is zero
SMALLEST = 1e-9
CONFIG = """\
model: {{name: fcn, backbone: {backbone}, num_classes: {num_classes}, aux: true, dropout: 0,
        norm: batch}}
data: {{format: masks, root: {root}, train: {{list: list.txt}}, size: [{height}, {width}],
       resize: none, flip: 0, shuffle: false}}
train: {{batch: {images}, micro_batch: {images}, steps: 1, seed: 1}}
optimizer: {{name: sgd, lr: 512}}
regularization: {{l2: 0, rules: [{{match: {{name: "*"}}, lr_scale: 2048}}]}}
schedule: {{warmup_steps: 0, type: constant}}
runtime: {{device: cpu, conv: direct}}
"""
SCALE = 512.0 * 2048.0  # a power of two: the change is the gradient times it, exactly


def write_data(root):
    root.mkdir(parents=True)
    lines = []
    for index in range(CASE["images"]):
        size = CASE["height"], CASE["width"]
        Image.fromarray(common.image_bytes(CASE["seed"], index, *size)).save(root / f"{index}.png")
        labels = common.label_map(CASE["seed"], index, *size, CASE["num_classes"])
        Image.fromarray(labels.astype("u1")).save(root / f"{index}-labels.png")
        lines.append(f"{index}.png {index}-labels.png\n")
    (root / "list.txt").write_text("".join(lines))


def run_ridgeline(binary, work):
    """(losses, tensors after one step)."""
    config, out = work / "fcn.yaml", work / "run"
    config.write_text(CONFIG.format(**CASE, root=work / "data"))
    command = [binary, "train", str(config), "--out", str(out), "--init", str(work / "weights.h5")]
    print("+", shlex.join(command), flush=True)
    subprocess.run(command, check=True)
    line = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])
    return line, hdf5.read(max((out / "checkpoints").glob("step-*")))


def compare(binary, work):
    report = parity_run.Report()
    start = common.formula_state(CASE["seed"], models.shapes_of(fcn_goldens.make_model(CASE)))
    hdf5.write(work / "weights.h5", start)
    write_data(work / "data")
    line, tensors = run_ridgeline(binary, work)
    runs = fcn_goldens.run(CASE)
    for key in ("out", "aux"):
        exact = runs.history[0][f"{key}_float64"]
        report.row(f"loss_{key}", abs(line[f"loss_{key}"] - exact) / exact, LOSS_TOLERANCE)
    for name, exact in runs.exact_model.named_buffers():
        if "running_" in name:
            report.row(name, common.distance(tensors[name], exact), STATISTICS_TOLERANCE)
    ratios = {}
    for name, exact in runs.exact.items():
        if float(exact.norm()) < SMALLEST:
            continue
        measured = (start[name].astype("f8") - tensors[name]) / SCALE
        rounding = max(common.distance(g[name], exact) for g in runs.gradients)
        ratios[name] = common.distance(measured, exact) / rounding
    for name in sorted(ratios, key=ratios.get)[-5:]:
        report.row(f"gradient {name}, roundings of PyTorch", ratios[name], ROUNDINGS)
    return report.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ridgeline", default="./build/ridgeline")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        sys.exit(1 if compare(parser.parse_args().ridgeline, pathlib.Path(work)) else 0)


if __name__ == "__main__":
    main()
