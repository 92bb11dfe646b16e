"""tests/goldens/detection.json: torchvision's anchors, box coder, matcher, NMS and fused losses."""

import numpy as np
import torch
from torchvision.models.detection import _utils as detection
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
from torchvision.ops import batched_nms, box_iou

import common
import models
import training

SEED = 1
SIZES = [(128, 128), (128, 160), (64, 96), (256, 256), (480, 640), (800, 1344)]


def uniform(name, shape, center, scale):
    return torch.from_numpy(common.values(SEED, name, shape, center, scale))


def grids(height, width):
    """Sizes of P3..P7: halved with rounding up, from stride 8 on (convolutions with padding 1)."""
    size = height, width
    levels = []
    for level in range(1, 8):
        size = tuple((s + 1) // 2 for s in size)
        if level >= 3:
            levels.append(size)
    return levels


def anchors_of(height, width):
    generator = _default_anchorgen()
    features = [torch.zeros(1, 1, *g) for g in grids(height, width)]
    return generator(ImageList(torch.zeros(1, 3, height, width), [(height, width)]), features)[0]


def anchors_golden():
    """All coordinates are whole numbers. checksum: sum of (i % 65536 + 1) * value i, exact."""
    cases = {}
    for height, width in SIZES:
        anchors = anchors_of(height, width).double().numpy()
        flat = anchors.reshape(-1)
        cases[f"{height}x{width}"] = {
            "height": height, "width": width, "grids": grids(height, width),
            "strides": [[height // g[0], width // g[1]] for g in grids(height, width)],
            "count": len(anchors), "column_sums": anchors.sum(0), "first": anchors[:9],
            "last": anchors[-9:],
            "checksum": int(((np.arange(flat.size) % 65536 + 1) * flat).sum())}
    return {"cell_anchors": [c.numpy() for c in _default_anchorgen().cell_anchors],
            "sizes": cases}


def boxes(name, count, extent):
    """xyxy boxes: centres and sizes by formula, in quarters, so that they are exact in float32."""
    centre = uniform(f"{name}:centre", (count, 2), extent / 2, extent / 2)
    size = uniform(f"{name}:size", (count, 2), extent / 4, extent / 4 - 2)
    quarters = torch.cat([centre - size / 2, centre + size / 2], 1).mul(4).round() / 4
    return quarters.clamp(-extent, 2 * extent)


def box_coder_golden():
    coder = detection.BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
    anchors, truth = boxes("coder:anchors", 12, 100.0), boxes("coder:boxes", 12, 100.0)
    deltas = uniform("coder:deltas", (12, 4), 0.0, 0.8)
    deltas[0] = torch.tensor([0.0, 0.0, 9.0, 5.0])  # dw and dh are limited to log(1000 / 16)
    return {"anchors": anchors.numpy(), "boxes": truth.numpy(), "deltas": deltas.numpy(),
            "encoded": coder.encode_single(truth.double(), anchors.double()).numpy(),
            "decoded": coder.decode_single(deltas.double(), anchors.double()).numpy()}


def runs_of(matched):
    """[index, value] for every anchor that is not background (-1); -2: between the thresholds."""
    return [[i, v] for i, v in enumerate(matched.tolist()) if v != -1]


def matcher_golden():
    matcher = detection.Matcher(0.5, 0.4, allow_low_quality_matches=True)
    cases = {}
    for case, size, truth in (
            ("retinanet_128x160", (128, 160), [[0, 0, 160, 128], [12.25, 30, 50.75, 66.5],
                                               [100, 40, 131, 75], [96, 36, 140, 80],
                                               [150, 110, 157, 119]]),
            ("same_box_twice", (64, 96), [[16, 16, 48, 48], [16, 16, 48, 48]]),
            ("tiny_between_anchors", (64, 96), [[31, 31, 33, 33]]),
            ("equal_quality", (64, 96), [[20, 8, 44, 56], [52, 8, 76, 56]])):
        anchors, truth = anchors_of(*size), torch.tensor(truth)
        matched = matcher(box_iou(truth, anchors))
        exact = matcher(box_iou(truth.double(), anchors.double()))
        assert torch.equal(matched, exact), case
        cases[case] = {"height": size[0], "width": size[1], "boxes": truth.numpy(),
                       "count": len(anchors), "not_background": runs_of(matched)}
    return {"foreground": 0.5, "background": 0.4, "cases": cases}


def nms_golden():
    cases = {}
    for case, count, classes, threshold in (("one_class", 40, 1, 0.5), ("classes", 60, 4, 0.5),
                                            ("strict", 40, 2, 0.2)):
        candidates = boxes(f"nms:{case}", count, 60.0)
        words = common.bits(SEED, f"nms:{case}:order", count)
        scores = torch.zeros(count)
        scores[torch.from_numpy(np.argsort(words))] = torch.arange(1, count + 1) / 64.0  # distinct
        labels = torch.from_numpy(((common.bits(SEED, f"nms:{case}:labels", count) >> 8)
                                   % classes).astype(np.int64))
        cases[case] = {"boxes": candidates.numpy(), "scores": scores.numpy(),
                       "labels": labels.tolist(), "threshold": threshold,
                       "keep": batched_nms(candidates, scores, labels, threshold).tolist()}
    return cases


def losses_golden():
    """RetinaNet's losses on given head outputs: logits (N, HWA, K), deltas (N, HWA, 4)."""
    height, width, num_classes = 64, 96, 3
    targets = [{"boxes": [[8, 8, 40, 44], [30.5, 4, 90.25, 60], [70, 50, 77, 58]],
                "labels": [1, 2, 2]}, {"boxes": [], "labels": []}]
    anchors = [anchors_of(height, width)] * 2
    count = len(anchors[0])
    outputs = {"cls_logits": uniform("loss:cls_logits", (2, count, num_classes), -3.0, 3.0),
               "bbox_regression": uniform("loss:bbox_regression", (2, count, 4), 0.0, 1.0)}
    outputs = {k: v.double().requires_grad_() for k, v in outputs.items()}
    matcher = detection.Matcher(0.5, 0.4, allow_low_quality_matches=True)
    truth = models.targets(targets)
    matched = [matcher(box_iou(truth[0]["boxes"], anchors[0])), torch.full((count,), -1)]
    exact = models.targets(targets, torch.float64)
    losses = RetinaNetHead(8, 9, num_classes).compute_loss(
        exact, outputs, [a.double() for a in anchors], matched)
    training.total(losses).backward()
    return {"height": height, "width": width, "num_classes": num_classes, "targets": targets,
            "inputs": {"cls_logits": {"stream": "loss:cls_logits", "formula": [-3.0, 3.0]},
                       "bbox_regression": {"stream": "loss:bbox_regression",
                                           "formula": [0.0, 1.0]}},
            "losses": {k: v.item() for k, v in losses.items()},
            "gradients": {k: {"shape": list(v.shape),
                              "gradient": common.statistics(k, v.grad)}
                          for k, v in outputs.items()}}


def main():
    common.write_golden("detection.json", {
        "versions": models.VERSIONS, "seed": SEED, "anchors": anchors_golden(),
        "box_coder": box_coder_golden(), "matcher": matcher_golden(), "nms": nms_golden(),
        "losses": losses_golden()})


if __name__ == "__main__":
    main()
