"""tests/goldens/retinanet_*.json: torchvision's RetinaNet from formula weights."""

import sys

import torch

import common
import models
import training

SGD = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
NUM_STEPS = 3
EVAL = {"score_thresh": 0.02, "nms_thresh": 0.5, "detections_per_img": 40}
# a small box (matched by low quality only), a large one, an overlapping pair of one class, the same
# box under two labels; the second image is without boxes. Coordinates are exact in float32.
BOXES_128 = [{"boxes": [[8, 12, 44, 40], [10.5, 20.25, 100, 118.5], [60, 4, 126, 72],
                        [64, 8, 120, 70], [90, 90, 97, 101], [30, 70, 62, 102], [30, 70, 62, 102]],
              "labels": [1, 17, 3, 3, 90, 44, 62]}, {"boxes": [], "labels": []}]
BOXES_160 = [{"boxes": [[0, 0, 160, 128], [12.25, 30, 50.75, 66.5], [100, 40, 131, 75],
                        [96, 36, 140, 80], [150, 110, 157, 119]], "labels": [1, 2, 3, 3, 1]},
             {"boxes": [], "labels": []}]
BOXES_96 = [{"boxes": [[8, 8, 40, 44], [30.5, 4, 90.25, 60], [70, 50, 77, 58]],
             "labels": [1, 2, 3]}, {"boxes": [], "labels": []}]
NO_BOXES = [{"boxes": [], "labels": []}, {"boxes": [], "labels": []}]
R50 = {"backbone": "resnet50", "num_classes": 91, "height": 128, "width": 128,
       "targets": BOXES_128, "seed": 4}
X50 = {**R50, "backbone": "resnext50_32x4d", "num_classes": 264, "seed": 8}
R18 = {"backbone": "resnet18", "num_classes": 4, "height": 128, "width": 160,
       "targets": BOXES_160, "seed": 2}
# Seeds: no input of a ReLU lies so close to zero that rounding decides its sign (README.md,
# "Kinks"); check_seeds.py tells.
CASES = {
    "retinanet_r50_stages3": {**R50, "norm": "frozen", "trainable_stages": 3},
    "retinanet_r50_stages5": {**R50, "norm": "frozen", "trainable_stages": 5},
    "retinanet_x50_stages3": {**X50, "norm": "frozen", "trainable_stages": 3},
    "retinanet_r18_stages3": {**R18, "norm": "frozen", "trainable_stages": 3},
    "retinanet_r18_stages5": {**R18, "norm": "frozen", "trainable_stages": 5},
    "retinanet_r18_no_boxes": {**R18, "norm": "frozen", "trainable_stages": 5,
                               "targets": NO_BOXES},
    "retinanet_r18_batch_norm": {**R18, "norm": "batch", "trainable_stages": 5, "height": 64,
                                 "width": 96, "targets": BOXES_96, "seed": 6},
}


def make_model(case):
    return models.load_formula(models.retinanet(
        case["backbone"], case["num_classes"], case["norm"], case["trainable_stages"], **EVAL),
        case["seed"])


def data_of(case):
    """dtype -> (images, targets). The images are float32's values in either precision."""
    def data(dtype):
        batch = [image.to(dtype) for image in models.images(
            case["seed"], len(case["targets"]), case["height"], case["width"])]
        return batch, models.targets(case["targets"], dtype)
    return data


def forward_outputs(case, dtype):
    """Features and head outputs of the initial weights, with the norm's stored statistics."""
    model = make_model(case).to(dtype).eval()
    with torch.no_grad():
        batch, _ = model.transform(data_of(case)(dtype)[0])
        features = model.backbone(batch.tensors)
        outputs = {f"feature:{level}": v for level, v in zip(range(3, 8), features.values())}
        outputs |= model.head(list(features.values()))
        detections = model(data_of(case)(dtype)[0])
    return outputs, detections


def check_detections(float32, float64):
    """The order must not hang on rounding, or no other program could be compared with it."""
    for a, b in zip(float32, float64):
        assert len(a["scores"]) == len(b["scores"]) and (a["labels"] == b["labels"]).all()
        assert torch.allclose(a["boxes"].double(), b["boxes"], atol=1e-3)
        assert torch.allclose(a["scores"].double(), b["scores"], atol=1e-5)


def detections_entry(float64):
    return [{"boxes": d["boxes"].numpy(), "scores": d["scores"].numpy(),
             "labels": d["labels"].tolist()} for d in float64]


def run(case):
    num_steps = NUM_STEPS if case["norm"] == "frozen" else 1
    return training.Runs(lambda: make_model(case), training.retinanet_losses, data_of(case),
                         num_steps, SGD)


def golden(case):
    runs = run(case)
    outputs32, detections32 = forward_outputs(case, torch.float32)
    outputs64, detections64 = forward_outputs(case, torch.float64)
    content = {"versions": models.VERSIONS, "case": case,
               "sgd": {**SGD, "steps": len(runs.history)}, "losses": runs.history,
               "outputs": {k: training.value_entry(k, [outputs32[k]], v)
                           for k, v in outputs64.items()}}
    if any(t["boxes"] for t in case["targets"]):
        check_detections(detections32, detections64)
        content["eval"] = EVAL
        content["detections"] = detections_entry(detections64)
    content["tensors"] = runs.tensors(with_changes=case["norm"] == "frozen")
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
