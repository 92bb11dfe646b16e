"""tests/goldens/optimizers.json: ten steps of PyTorch's optimizers, on given gradients and on those
of a loss."""

import numpy as np
import torch

import common
import models

SEED, NUM_STEPS = 1, 10
SHAPES = {"p0": (5,), "p1": (3, 4), "p2": (2, 3, 3, 3)}
PARAMETER = (0.0, 1.0)  # (center, scale) of the formula
GRADIENT = (0.05, 0.5)
TARGET = (0.3, 0.8)
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


class Run:
    """A step at a time of an optimizer of its own, from the formula's parameters."""

    def __init__(self, name, options, dtype):
        options = {k: tuple(v) if k == "betas" else v for k, v in options.items()}
        self.parameters = {k: torch.nn.Parameter(formula(k, s, PARAMETER).to(dtype))
                           for k, s in SHAPES.items()}
        # PyTorch's default decay of AdamW is 0.01: every case states its own
        self.optimizer = CLASSES[name](list(self.parameters.values()), foreach=False,
                                       **{"weight_decay": 0.0, **options})
        self.lr = options["lr"]

    def formula(self, kind, step, center_scale):
        """For each parameter p, the formula of "p:KIND:STEP", step from 0."""
        return {k: formula(f"{k}:{kind}:{step}", p.shape, center_scale).to(p.dtype)
                for k, p in self.parameters.items()}

    def step(self, factor):
        self.optimizer.param_groups[0]["lr"] = self.lr * factor
        self.optimizer.step()


def run(name, options, factors, dtype):
    """Parameters after the steps with given gradients."""
    steps = Run(name, options, dtype)
    for step, factor in enumerate(factors):
        for key, gradient in steps.formula("gradient", step, GRADIENT).items():
            steps.parameters[key].grad = gradient
        steps.step(factor)
    return {k: p.detach().numpy().reshape(-1) for k, p in steps.parameters.items()}


def losses(name, options, factors):
    """Half the squared distance to each step's targets, before the step that its gradient makes."""
    steps, values = Run(name, options, torch.float32), []
    for step, factor in enumerate(factors):
        targets = steps.formula("target", step, TARGET)
        values.append(sum(0.5 * (p.detach().double() - targets[k].double()).square().sum().item()
                          for k, p in steps.parameters.items()))
        steps.optimizer.zero_grad()
        sum(0.5 * (p - targets[k]).square().sum()
            for k, p in steps.parameters.items()).backward()
        steps.step(factor)
    return values


def main():
    cases = {}
    for index, (name, options, factors) in enumerate(CASES):
        result = run(name, options, factors, torch.float32)
        exact = run(name, options, factors, torch.float64)
        cases[f"{index:02d}_{name}"] = {
            "name": name, "options": options, "lr_factors": factors, "parameters": result,
            "losses": losses(name, options, factors),
            "float64_error": max(float(np.abs(result[k] - exact[k]).max()) for k in SHAPES)}
    common.write_golden("optimizers.json", {
        "versions": models.VERSIONS, "seed": SEED, "steps": NUM_STEPS, "shapes": SHAPES,
        "parameter_formula": PARAMETER, "gradient_formula": GRADIENT,
        "target_formula": TARGET, "cases": cases})


if __name__ == "__main__":
    main()
