"""Runs ridgeline and torchvision from the same weights on the same images and compares them.

Two runs: three SGD steps (losses, changes of every tensor) and one step with a large learning
rate, no momentum and no decay, whose change is the gradient. Exit code 1 beyond a tolerance.
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
import hdf5
import models
import retinanet_goldens
import training

LOSS_TOLERANCE, GRADIENT_TOLERANCE, CHANGE_TOLERANCE = 1e-5, 1e-4, 1e-2
# 512 x 2048 = 2^20: multiplying by a power of two is exact, and the change is far above the
# rounding of the weights. optimizer.lr ends at 1000.
GRADIENT_SGD = {"lr": 512.0, "momentum": 0.0, "weight_decay": 0.0}
LR_SCALE = 2048.0
CASES = [k for k, v in retinanet_goldens.CASES.items() if v["norm"] == "frozen"]
CONFIG = """\
model: {{name: retinanet, backbone: {backbone}, num_classes: {num_classes}, norm: {norm},
        trainable_stages: {trainable_stages}}}
data: {{format: coco, root: {root}, train: {{images: images, annotations: instances.json}},
       label_map: ids, size: [{height}, {width}], resize: none, flip: 0, shuffle: false}}
train: {{batch: 2, micro_batch: {micro_batch}, steps: {steps}, seed: 1}}
optimizer: {{name: sgd, lr: {lr}, momentum: {momentum}}}
regularization: {{l2: {weight_decay}, mode: coupled, convention: half,
                 rules: [{rules}]}}
schedule: {{warmup_steps: 0, type: constant}}
runtime: {{device: cpu, conv: direct}}
checkpoint: {{every_steps: 1, keep: 3}}
log: {{every_steps: 1}}
"""


def write_data(root, case):
    """PNG images and COCO annotations. Categories are all ids, so that both label maps agree."""
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for index, target in enumerate(case["targets"]):
        pixels = common.image_bytes(case["seed"], index, case["height"], case["width"])
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        images.append({"id": index + 1, "file_name": f"{index}.png", "height": case["height"],
                       "width": case["width"]})
        for (x1, y1, x2, y2), label in zip(target["boxes"], target["labels"]):
            annotations.append({"id": len(annotations) + 1, "image_id": index + 1,
                                "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1],
                                "area": (x2 - x1) * (y2 - y1), "iscrowd": 0})
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, case["num_classes"])]
    (root / "instances.json").write_text(json.dumps(
        {"images": images, "annotations": annotations, "categories": categories}))


def run_ridgeline(arguments, work, case, sgd, steps, rules=""):
    """(training lines of metrics.jsonl, tensors of the newest checkpoint)."""
    name = f"{case['backbone']}-{steps}"
    config, out = work / f"{name}.yaml", work / name
    config.write_text(CONFIG.format(**case, **sgd, root=work / "data", steps=steps, rules=rules,
                                    micro_batch=arguments.micro_batch))
    command = [*shlex.split(arguments.launcher), arguments.ridgeline, "train", str(config),
               "--out", str(out), "--init", str(work / "weights.h5"), "--resume", "never"]
    print("+", shlex.join(command), flush=True)
    subprocess.run(command, check=True)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    newest = max((out / "checkpoints").glob("step-*"))
    return [line for line in lines if "loss" in line], hdf5.read(newest)


def run_torchvision(case, sgd, steps):
    """(losses per step, gradients of step 1, parameters after, frozen ones included)."""
    model = retinanet_goldens.make_model(case)
    history, gradients, _ = training.train(
        model, training.retinanet_losses, retinanet_goldens.data_of(case)(torch.float32), steps,
        sgd)
    return history, gradients, model.state_dict()


class Report:
    """Prints rows of (what, measured, tolerance) and remembers whether any was beyond."""

    def __init__(self):
        self.failed = False

    def row(self, what, measured, tolerance):
        beyond = not measured <= tolerance
        self.failed |= beyond
        print(f"{what:<62} {measured:10.2e} {tolerance:9.0e} {'BEYOND' if beyond else ''}")

    def losses(self, ours, theirs):
        for step, (line, losses) in enumerate(zip(ours, theirs, strict=True), start=1):
            for key, value in losses.items():
                difference = abs(line[f"loss_{key}"] - value) / max(abs(value), 1e-12)
                # later steps start from weights that differ by rounding: the change rules there
                self.row(f"step {step} loss_{key}", difference,
                         LOSS_TOLERANCE if step == 1 else CHANGE_TOLERANCE)

    def tensors(self, title, ours, theirs, tolerance, verbose):
        distances = {k: common.distance(ours[k], theirs[k]) for k in theirs}
        worst = max(distances, key=distances.get)
        for name, value in distances.items():
            if verbose or name == worst or not value <= tolerance:
                self.row(f"{title} {name}", value, tolerance)


def compare(arguments, work, case):
    report = Report()
    start = common.formula_state(case["seed"], models.shapes_of(retinanet_goldens.make_model(case)))
    hdf5.write(work / "weights.h5", start)
    write_data(work / "data", case)

    steps = retinanet_goldens.NUM_STEPS
    lines, tensors = run_ridgeline(arguments, work, case, retinanet_goldens.SGD, steps)
    history, gradients, state = run_torchvision(case, retinanet_goldens.SGD, steps)
    report.losses(lines, history)
    change = {k: tensors[k].astype("f8") - start[k] for k in start}
    expected = {k: state[k].numpy().astype("f8") - start[k] for k in start}
    report.tensors("change", change, expected, CHANGE_TOLERANCE, arguments.verbose)

    _, tensors = run_ridgeline(arguments, work, case, GRADIENT_SGD, 1,
                               f'{{match: {{name: "*"}}, lr_scale: {LR_SCALE}}}')
    scale = GRADIENT_SGD["lr"] * LR_SCALE
    measured = {k: (start[k].astype("f8") - tensors[k]) / scale for k in gradients}
    report.tensors("gradient", measured, gradients, GRADIENT_TOLERANCE, arguments.verbose)
    return report.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="*", default=CASES, help=f"of {', '.join(CASES)}")
    parser.add_argument("--ridgeline", default="./build/ridgeline")
    parser.add_argument("--launcher", default="", help="as 'mpirun -np 2'")
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="every tensor, not only the worst")
    arguments = parser.parse_args()
    failed = False
    for name in arguments.case:
        print(f"== {name}")
        with tempfile.TemporaryDirectory() as work:
            failed |= compare(arguments, pathlib.Path(work), retinanet_goldens.CASES[name])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
