"""A few training steps of a torchvision model, and what the goldens keep of them."""

import copy

import torch

import common

def retinanet_losses(model, batch, targets):
    return model(list(batch), copy.deepcopy(targets))


def fcn_losses(model, batch, label_maps):
    """torchvision's references/segmentation: mean over the pixels that are not ignored."""
    return {k: torch.nn.functional.cross_entropy(v, label_maps, ignore_index=255)
            for k, v in model(batch).items()}


def total(losses):
    """torchvision's objective: the auxiliary loss counts half."""
    return sum(v * (0.5 if k == "aux" else 1.0) for k, v in losses.items())


def snapshot(model):
    return {k: v.detach().clone() for k, v in model.named_parameters() if v.requires_grad}


def train(model, losses_of, data, num_steps, sgd):
    """Runs steps in place. Returns (losses per step, gradients of step 1, parameters before)."""
    model.train()
    before = snapshot(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], **sgd)
    history, gradients = [], {}
    for step in range(num_steps):
        optimizer.zero_grad(set_to_none=True)
        losses = losses_of(model, *data)
        total(losses).backward()
        if step == 0:
            gradients = {k: p.grad.detach().clone() for k, p in model.named_parameters()
                         if p.requires_grad}
        history.append({k: v.item() for k, v in losses.items()})
        optimizer.step()
    return history, gradients, before


def differences(model, before):
    """What training did to each parameter; exact, as float64 holds the difference."""
    return {k: v.double() - before[k].double() for k, v in snapshot(model).items()}


ROUNDINGS = ("oneDNN", "oneDNN, channels_last", "without oneDNN")


class Runs:
    """The same steps in float64 and, in three ways of rounding, in float32.

    history: losses per step, float32 and float64. exact: gradients of step 1 in float64.
    gradients, changes, models: one entry per rounding.
    """

    def __init__(self, make_model, losses_of, data, num_steps, sgd):
        self.gradients, self.changes, self.models, histories = [], [], [], []
        for rounding in ROUNDINGS:
            model = make_model()
            if "channels_last" in rounding:
                model = model.to(memory_format=torch.channels_last)
            with torch.backends.mkldnn.flags(enabled="without" not in rounding):
                history, gradients, before = train(
                    model, losses_of, data(torch.float32), num_steps, sgd)
            histories.append(history)
            self.gradients.append(gradients)
            self.changes.append(differences(model, before))
            self.models.append(model)
        self.exact_model = make_model().double()
        exact_history, self.exact, _ = train(
            self.exact_model, losses_of, data(torch.float64), num_steps, sgd)
        self.history = [{**a, **{f"{k}_float64": v for k, v in b.items()}}
                        for a, b in zip(histories[0], exact_history)]

    def gradient_entry(self, name):
        """Statistics of float64's gradient; the farthest of the roundings from it."""
        return {"gradient": common.statistics(name, self.exact[name]),
                "gradient_distance": max(
                    common.distance(g[name], self.exact[name]) for g in self.gradients)}

    def change_entry(self, name):
        """Statistics of what float32 training did; the farthest of the other roundings from it.
        Not float64's: rounding a bias of -4.6 to float32 is 1 % of what decay does to it."""
        return {"change": common.statistics(name, self.changes[0][name]),
                "change_distance": max(
                    common.distance(c[name], self.changes[0][name]) for c in self.changes[1:])}

    def running_entries(self):
        """Statistics of the running mean and variance of every norm after the steps."""
        entries = {}
        for name, exact in self.exact_model.named_buffers():
            if "running_" in name:
                entries[name] = value_entry(
                    name, [m.get_buffer(name) for m in self.models], exact)
        return entries

    def tensors(self, with_changes):
        return {name: {"shape": list(g.shape), **self.gradient_entry(name),
                       **(self.change_entry(name) if with_changes else {})}
                for name, g in self.exact.items()}


def value_entry(name, roundings, exact):
    return {"shape": list(exact.shape), "value": common.statistics(name, exact),
            "value_distance": max(common.distance(r, exact) for r in roundings)}


def worst(tensors):
    """{distance: (value, name)} of the tensor that rounding moves most."""
    keys = ("gradient_distance", "change_distance", "value_distance")
    return {key: max((t[key], n) for n, t in tensors.items() if key in t)
            for key in keys if any(key in t for t in tensors.values())}
