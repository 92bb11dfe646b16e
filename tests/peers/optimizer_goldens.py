"""tests/goldens/optimizers.json: ten steps of PyTorch's optimizers on given gradients."""

import numpy as np
import torch

import common
import models

SEED, NUM_STEPS = 1, 10
SHAPES = {"p0": (5,), "p1": (3, 4), "p2": (2, 3, 3, 3)}
PARAMETER = (0.0, 1.0)  # (center, scale) of the formula
GRADIENT = (0.05, 0.5)
CONSTANT = [1.0] * NUM_STEPS
DECAYED = [1.0] * 4 + [0.1] * 3 + [0.5] * 3  # times lr: the schedule must not enter the momentum
CASES = [
    ("sgd", {"lr": 0.1}, CONSTANT),
    ("sgd", {"lr": 0.1, "weight_decay": 0.05}, CONSTANT),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}, DECAYED),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, DECAYED),
    ("adam", {"lr": 0.01}, CONSTANT),
    ("adam", {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1}, DECAYED),
    ("adamw", {"lr": 0.01, "weight_decay": 0.05}, CONSTANT),
    ("adamw", {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.3}, DECAYED),
    ("adagrad", {"lr": 0.1}, CONSTANT),
    ("adagrad", {"lr": 0.05, "eps": 1e-2, "weight_decay": 0.1}, DECAYED),
    ("rmsprop", {"lr": 0.01}, CONSTANT),
    ("rmsprop", {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}, DECAYED),
    ("rmsprop", {"lr": 0.01, "alpha": 0.95, "momentum": 0.9, "weight_decay": 0.01}, DECAYED),
]
CLASSES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
           "adagrad": torch.optim.Adagrad, "rmsprop": torch.optim.RMSprop}


def formula(name, shape, center_scale):
    return torch.from_numpy(common.values(SEED, name, shape, *center_scale))


def run(name, options, factors, dtype):
    """Parameters after the steps. Gradient of step s (from 0) of p: formula "p:gradient:s"."""
    options = {k: tuple(v) if k == "betas" else v for k, v in options.items()}
    parameters = {k: torch.nn.Parameter(formula(k, s, PARAMETER).to(dtype))
                  for k, s in SHAPES.items()}
    # PyTorch's default decay of AdamW is 0.01: every case states its own
    optimizer = CLASSES[name](list(parameters.values()), foreach=False,
                              **{"weight_decay": 0.0, **options})
    for step, factor in enumerate(factors):
        for key, parameter in parameters.items():
            parameter.grad = formula(f"{key}:gradient:{step}", parameter.shape, GRADIENT).to(dtype)
        optimizer.param_groups[0]["lr"] = options["lr"] * factor
        optimizer.step()
    return {k: p.detach().numpy().reshape(-1) for k, p in parameters.items()}


def main():
    cases = {}
    for index, (name, options, factors) in enumerate(CASES):
        result = run(name, options, factors, torch.float32)
        exact = run(name, options, factors, torch.float64)
        cases[f"{index:02d}_{name}"] = {
            "name": name, "options": options, "lr_factors": factors, "parameters": result,
            "float64_error": max(float(np.abs(result[k] - exact[k]).max()) for k in SHAPES)}
    common.write_golden("optimizers.json", {
        "versions": models.VERSIONS, "seed": SEED, "steps": NUM_STEPS, "shapes": SHAPES,
        "parameter_formula": PARAMETER, "gradient_formula": GRADIENT, "cases": cases})


if __name__ == "__main__":
    main()
