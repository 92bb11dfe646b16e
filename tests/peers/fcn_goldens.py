"""tests/goldens/fcn_*.json: one training step of torchvision's FCN from formula weights."""

import sys

import numpy as np
import torch

import common
import models
import training

SGD = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
R50 = {"backbone": "resnet50", "num_classes": 21, "aux": True, "images": 2}
CASES = {"fcn_r50_batch_norm": {**R50, "norm": "batch", "height": 128, "width": 128,
                                "seed": 1},
         "fcn_r50_frozen": {**R50, "norm": "frozen", "height": 64, "width": 64,
                            "seed": 3},
         "fcn_x50_frozen": {**R50, "backbone": "resnext50_32x4d", "norm": "frozen", "height": 64,
                            "width": 64, "seed": 5},
         "fcn_r101_batch_norm": {**R50, "backbone": "resnet101", "norm": "batch", "height": 128,
                                 "width": 128, "seed": 1}}


def make_model(case):
    return models.load_formula(models.fcn(
        case["backbone"], case["num_classes"], case["aux"], case["norm"]), case["seed"])


def data_of(case):
    def data(dtype):
        size = case["height"], case["width"]
        batch = models.normalised(models.images(case["seed"], case["images"], *size))
        labels = [common.label_map(case["seed"], i, *size, case["num_classes"])
                  for i in range(case["images"])]
        return batch.to(dtype), torch.from_numpy(np.stack(labels)).long()
    return data


def run(case):
    return training.Runs(lambda: make_model(case), training.fcn_losses, data_of(case), 1, SGD)


def golden(case):
    runs = run(case)
    content = {"versions": models.VERSIONS, "case": case, "sgd": {**SGD, "steps": 1},
               "losses": runs.history, "tensors": runs.tensors(with_changes=False)}
    if case["norm"] == "batch":
        content["tensors"] |= runs.running_entries()
    return content


def main(names):
    torch.set_num_threads(1)
    for name in names or CASES:
        content = golden(CASES[name])
        print(name, content["losses"][0], training.worst(content["tensors"]))
        common.write_golden(f"{name}.json", content)


if __name__ == "__main__":
    main(sys.argv[1:])
