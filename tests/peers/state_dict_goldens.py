"""tests/goldens/state_dict_*.json: names, shapes and parameter counts of torchvision's models."""

import torch

import common
import models

BACKBONES = {"r18": "resnet18", "r34": "resnet34", "r50": "resnet50", "r101": "resnet101",
             "x50": "resnext50_32x4d"}
MODELS = [("retinanet", name, 91) for name in ("r18", "r34", "r50", "r101")]
MODELS += [("retinanet", "x50", 264)]  # MLPerf's
MODELS += [("fcn", name, 21) for name in ("r50", "r101", "x50")]


def make(kind, backbone, num_classes, norm, stages):
    with torch.device("meta"):
        if kind == "fcn":
            return models.fcn(backbone, num_classes)
        return models.retinanet(backbone, num_classes, norm, stages)


def count(model, trainable_only=False):
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def golden(kind, name, num_classes):
    """`tensors` is the state_dict with training norm; a frozen norm has no num_batches_tracked."""
    backbone = BACKBONES[name]
    full = make(kind, backbone, num_classes, "batch", 5)
    content = {"versions": models.VERSIONS, "model": kind, "backbone": backbone,
               "num_classes": num_classes, "parameters": {"batch": count(full)}}
    if kind == "retinanet":
        content["parameters"]["frozen"] = count(make(kind, backbone, num_classes, "frozen", 5))
        content["trainable"] = {  # index: trainable_stages
            norm: [count(make(kind, backbone, num_classes, norm, stages), True)
                   for stages in range(6)] for norm in ("batch", "frozen")}
    content["tensors"] = {k: list(v) for k, v in models.shapes_of(full).items()}
    return content


if __name__ == "__main__":
    for spec in MODELS:
        common.write_golden("state_dict_{}_{}.json".format(*spec), golden(*spec))
