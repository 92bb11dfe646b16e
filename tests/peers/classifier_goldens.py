"""tests/goldens/classifiers.json: PyTorch's and torchvision's classifiers from formula weights."""

import numpy as np
import torch
import torchvision
from torch import nn

import common
import models

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "vgg16")
CASES = {
    "mlp": {"model": "mlp", "image": [1, 28, 28], "images": 6, "num_classes": 10, "seed": 1,
            "label_smoothing": 0.0},
    "mlp_smoothed": {"model": "mlp", "image": [1, 28, 28], "images": 6, "num_classes": 10,
                     "seed": 1, "label_smoothing": 0.1},
    "cnn": {"model": "cnn", "image": [3, 32, 32], "images": 2, "num_classes": 10, "seed": 1,
            "label_smoothing": 0.0},
    "resnet18": {"model": "resnet18", "image": [3, 64, 64], "images": 2, "num_classes": 10,
                 "seed": 1, "label_smoothing": 0.0},
    "resnext50_32x4d": {"model": "resnext50_32x4d", "image": [3, 64, 64], "images": 2,
                        "num_classes": 10, "seed": 2, "label_smoothing": 0.0},
}
TOLERANCE = 2e-5  # float32 against float64: a seed without a ReLU at zero


def mlp(layers):
    modules = []
    for inputs, outputs in zip(layers, layers[1:]):
        modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def cnn(channels, num_classes):
    return nn.Sequential(
        nn.Conv2d(channels, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8192, 1024), nn.ReLU(), nn.Linear(1024, num_classes))


def make(name, channels=3, num_classes=1000):
    if name == "mlp":
        return mlp([784, 64, 64, 10])
    if name == "cnn":
        return cnn(channels, num_classes)
    model = torchvision.models.__dict__[name](weights=None, num_classes=num_classes)
    return model


def count(model):
    return sum(p.numel() for p in model.parameters())


def structure(name):
    with torch.device("meta"):
        model = make(name, 3, 10 if name == "cnn" else 1000)
    return {"parameters": count(model),
            "tensors": {k: list(v) for k, v in models.shapes_of(model).items()}}


def step(case, dtype):
    """Frozen statistics, so that the gradient does not depend on two images' variances."""
    model = models.load_formula(make(case["model"], case["image"][0], case["num_classes"]),
                                case["seed"]).to(dtype).eval()
    shape = (case["images"], *case["image"])
    image = torch.from_numpy(common.values(case["seed"], "image", shape, 0.5, 0.5)).to(dtype)
    if case["model"] == "mlp":
        image = image.flatten(1)
    label = torch.arange(case["images"]) * 3 % case["num_classes"]
    logits = model(image)
    loss = nn.functional.cross_entropy(logits, label, label_smoothing=case["label_smoothing"])
    loss.backward()
    return logits, loss, {k: p.grad for k, p in model.named_parameters()}


def golden(name):
    case = CASES[name]
    logits, loss, gradients = step(case, torch.float64)
    _, _, rounded = step(case, torch.float32)
    worst = max(common.distance(rounded[k], g) for k, g in gradients.items())
    print(name, loss.item(), "rounding", worst)
    assert worst < TOLERANCE, "another seed"
    return {"case": case, "loss": loss.item(), "logits": logits.detach().numpy(),
            "gradients": {k: common.statistics(k, np.asarray(g)) for k, g in gradients.items()}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    common.write_golden("classifiers.json", {
        "versions": models.VERSIONS,
        "structures": {name: structure(name) for name in ("mlp", "cnn", *BACKBONES)},
        "cases": {name: golden(name) for name in CASES}})
