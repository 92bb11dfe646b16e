"""tests/goldens/ops.json: PyTorch's ops on small tensors, forward and backward, in float64."""

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

import common
import models

SEED = 1
CASES = {}


def tensor(case, name, shape, center=0.0, scale=1.0):
    """(description, float64 value): the formula of stream "CASE:NAME"."""
    value = common.values(SEED, f"{case}:{name}", shape, center, scale)
    return ({"shape": list(shape), "formula": [center, scale]},
            torch.from_numpy(value).double())


def output(value):
    value = value.detach()
    return {"shape": list(value.shape), "values": value.reshape(-1).numpy()}


def add(case, op, attributes, shapes, function):
    """Records y = function(inputs) and, for the output gradient dy, the gradient of each input.

    shapes: {input: shape or (shape, center, scale)}.
    """
    described, inputs = {}, {}
    for name, spec in shapes.items():
        spec = spec if isinstance(spec[0], tuple) else (spec,)
        described[name], value = tensor(case, name, *spec)
        inputs[name] = value.requires_grad_()
    y = function(**inputs)
    described["dy"], dy = tensor(case, "dy", tuple(y.shape))
    y.backward(dy)
    outputs = {"y": output(y), **{f"d{n}": output(v.grad) for n, v in inputs.items()}}
    CASES[case] = {"op": op, "attributes": attributes, "inputs": described, "outputs": outputs}


def resampling():
    for case, shape, size in (("nearest_up", (1, 2, 3, 5), (7, 10)),
                              ("nearest_double", (2, 3, 2, 3), (4, 6)),
                              ("nearest_from_one", (1, 2, 1, 1), (2, 3))):
        add(case, "upsample_nearest", {"size": size}, {"x": shape},
            lambda x: F.interpolate(x, size=size, mode="nearest"))
    for case, shape, size in (("bilinear_up", (1, 2, 3, 4), (8, 13)),
                              ("bilinear_up_8", (2, 3, 2, 2), (16, 16)),
                              ("bilinear_down", (1, 2, 8, 13), (3, 4)),
                              ("bilinear_mixed", (1, 2, 9, 4), (5, 7))):
        add(case, "resize_bilinear", {"size": size, "align_corners": False}, {"x": shape},
            lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=False))
    for case, shape in (("max_pool", (2, 2, 7, 8)), ("max_pool_even", (1, 3, 8, 6))):
        add(case, "max_pool", {"kernel": 3, "stride": 2, "padding": 1}, {"x": shape},
            lambda x: F.max_pool2d(x, 3, 2, 1))


def convolutions():
    for case, x, w, attributes in (
            ("conv_3x3", (2, 3, 5, 6), (4, 3, 3, 3), {"stride": 1, "padding": 1, "dilation": 1}),
            ("conv_stride", (1, 4, 7, 5), (2, 4, 3, 3), {"stride": 2, "padding": 1, "dilation": 1}),
            ("conv_dilated", (1, 2, 7, 6), (3, 2, 3, 3), {"stride": 1, "padding": 2,
                                                          "dilation": 2}),
            ("conv_1x1", (2, 3, 3, 4), (5, 3, 1, 1), {"stride": 2, "padding": 0, "dilation": 1}),
            ("conv_7x7", (1, 3, 9, 8), (2, 3, 7, 7), {"stride": 2, "padding": 3, "dilation": 1})):
        add(case, "conv", attributes, {"x": x, "weight": w, "bias": w[:1]},
            lambda x, weight, bias: F.conv2d(x, weight, bias, **attributes))
    for case, x, w, attributes in (
            ("conv_transposed_2x", (2, 3, 3, 4), (3, 2, 4, 4), {"stride": 2, "padding": 1}),
            ("conv_transposed_3x3", (1, 2, 4, 3), (2, 3, 3, 3), {"stride": 1, "padding": 0}),
            ("conv_transposed_8x", (1, 2, 2, 2), (2, 2, 16, 16), {"stride": 8, "padding": 4})):
        add(case, "conv_transposed", attributes, {"x": x, "weight": w, "bias": (w[1],)},
            lambda x, weight, bias: F.conv_transpose2d(x, weight, bias, **attributes))


def norms():
    for case, shape, groups in (("group_norm", (2, 8, 3, 4), 4),
                                ("group_norm_one", (1, 6, 2, 2), 1)):
        add(case, "group_norm", {"groups": groups, "eps": 1e-5},
            {"x": shape, "weight": (shape[1:2], 1.0, 0.5), "bias": shape[1:2]},
            lambda x, weight, bias: F.group_norm(x, groups, weight, bias, 1e-5))
    case, shape = "batch_norm", (3, 4, 3, 5)
    means, running_mean = tensor(case, "running_mean", shape[1:2], 0.0, 0.5)
    variances, running_var = tensor(case, "running_var", shape[1:2], 1.0, 0.5)
    add(case, "batch_norm", {"eps": 1e-5, "momentum": 0.1},
        {"x": (shape, 0.5, 2.0), "weight": (shape[1:2], 1.0, 0.5), "bias": shape[1:2]},
        lambda x, weight, bias: F.batch_norm(x, running_mean, running_var, weight, bias, True, 0.1,
                                             1e-5))  # updates the running statistics in place
    CASES[case]["inputs"] |= {"running_mean": means, "running_var": variances}
    CASES[case]["outputs"] |= {"running_mean_after": output(running_mean),
                               "running_var_after": output(running_var)}


def loss(case, op, attributes, logits, targets, function):
    """A scalar loss of logits and given integer targets, and its gradient."""
    described, x = tensor(case, "x", *logits)
    x.requires_grad_()
    y = function(x)
    y.backward()
    CASES[case] = {"op": op, "attributes": attributes,
                   "inputs": {"x": described,
                              "targets": {"shape": list(targets.shape),
                                          "values": targets.reshape(-1).tolist()}},
                   "outputs": {"loss": output(y.reshape(1)), "dx": output(x.grad)}}


def integers(case, shape, bound):
    words = common.bits(SEED, f"{case}:targets", int(np.prod(shape)))
    return torch.from_numpy(((words >> 8) % bound).astype(np.int64)).reshape(shape)


def losses():
    for case, shape, scale in (("cross_entropy", (2, 5, 3, 4), 3.0),
                               ("cross_entropy_large", (1, 4, 2, 3), 200.0)):
        targets = integers(case, (shape[0], *shape[2:]), shape[1] + 1)
        targets[targets == shape[1]] = 255
        loss(case, "softmax_cross_entropy", {"ignore": 255, "reduction": "mean of the others"},
             (shape, 0.0, scale), targets,
             lambda x: F.cross_entropy(x, targets, ignore_index=255))
    for case, scale in (("focal", 4.0), ("focal_large", 150.0)):
        targets = integers(case, (40, 3), 4) == 0
        loss(case, "sigmoid_focal_loss", {"alpha": 0.25, "gamma": 2.0, "reduction": "sum"},
             ((40, 3), -2.0, scale), targets.long(),
             lambda x: sigmoid_focal_loss(x, targets.double(), reduction="sum"))


def main():
    for group in (resampling, convolutions, norms, losses):
        group()
    common.write_golden("ops.json", {"versions": models.VERSIONS, "seed": SEED, "cases": CASES})


if __name__ == "__main__":
    main()
