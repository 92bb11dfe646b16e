"""tests/goldens/state_dict_*.json: names, shapes and parameter counts of torchvision's models."""

import torch

import common
import models

MODELS = [("retinanet", depth, 91) for depth in (18, 34, 50, 101)]
MODELS += [("fcn", depth, 21) for depth in (50, 101)]


def make(kind, depth, num_classes, norm, stages):
    with torch.device("meta"):
        if kind == "fcn":
            return models.fcn(f"resnet{depth}", num_classes)
        return models.retinanet(f"resnet{depth}", num_classes, norm, stages)


def count(model, trainable_only=False):
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def golden(kind, depth, num_classes):
    """`tensors` is the state_dict with training norm; a frozen norm has no num_batches_tracked."""
    full = make(kind, depth, num_classes, "batch", 5)
    content = {"versions": models.VERSIONS, "model": kind, "backbone": f"resnet{depth}",
               "num_classes": num_classes, "parameters": {"batch": count(full)}}
    if kind == "retinanet":
        content["parameters"]["frozen"] = count(make(kind, depth, num_classes, "frozen", 5))
        content["trainable"] = {  # index: trainable_stages
            norm: [count(make(kind, depth, num_classes, norm, stages), True)
                   for stages in range(6)] for norm in ("batch", "frozen")}
    content["tensors"] = {k: list(v) for k, v in models.shapes_of(full).items()}
    return content


if __name__ == "__main__":
    for spec in MODELS:
        common.write_golden("state_dict_{}_r{}.json".format(*spec), golden(*spec))
