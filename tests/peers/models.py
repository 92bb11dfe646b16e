"""torchvision's models as Ridgeline builds them, with weights and inputs from the formulas."""

import re

import numpy as np
import torch
import torchvision
from torchvision.models import segmentation
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import common

VERSIONS = {"torch": torch.__version__.split("+")[0],
            "torchvision": torchvision.__version__.split("+")[0]}


def retinanet(backbone, num_classes, norm="frozen", trainable_stages=5, **kwargs):
    """RetinaNet v1 on any ResNet. Images are taken as they are: no resizing."""
    body = resnet_fpn_backbone(
        backbone_name=backbone, weights=None, trainable_layers=trainable_stages,
        norm_layer=FrozenBatchNorm2d if norm == "frozen" else torch.nn.BatchNorm2d,
        returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    model = RetinaNet(body, num_classes, **kwargs)
    model.transform.resize = lambda image, target: (image, target)
    return model


def freeze_norms(module):
    """Every BatchNorm2d becomes a FrozenBatchNorm2d of the same name."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features))
        else:
            freeze_norms(child)


def fcn(backbone, num_classes, aux=True, norm="batch"):
    """FCN with a dilated backbone; dropout 0, so that a step is a function of its input."""
    body = torchvision.models.__dict__[backbone](
        weights=None, replace_stride_with_dilation=[False, True, True])
    model = segmentation.fcn._fcn_resnet(body, num_classes, aux)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if norm == "frozen":
        freeze_norms(model)
    return model


def shapes_of(model):
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


def load_formula(model, seed):
    state = common.formula_state(seed, shapes_of(model))
    model.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()},
                          strict=True)
    return model


def matching(shapes):
    """(model, its name) whose state_dict has these names and shapes ({name: shape})."""
    norm = "batch" if any(k.endswith("num_batches_tracked") for k in shapes) else "frozen"
    # the blocks of stage 3 and their kind tell the ResNets apart
    blocks = len({m[1] for k in shapes if (m := re.search(r"layer3\.(\d+)\.", k))})
    bottleneck = any(".conv3." in k for k in shapes)
    depth = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101}[blocks, bottleneck]
    grouped = any(k.endswith("layer1.0.conv2.weight") and s[1] == 4 for k, s in shapes.items())
    backbone = "resnext50_32x4d" if grouped else f"resnet{depth}"
    if "classifier.4.weight" in shapes:
        aux = "aux_classifier.4.weight" in shapes
        return fcn(backbone, shapes["classifier.4.weight"][0], aux, norm), f"fcn_{backbone}"
    num_anchors = shapes["head.regression_head.bbox_reg.weight"][0] // 4
    num_classes = shapes["head.classification_head.cls_logits.weight"][0] // num_anchors
    return retinanet(backbone, num_classes, norm), f"retinanet_{backbone}"


def images(seed, count, height, width):
    """float32 (3, H, W) in [0, 1]: byte / 255. RetinaNet normalises itself."""
    pixels = [common.image_bytes(seed, i, height, width) for i in range(count)]
    return [torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in pixels]


def normalised(batch):
    """(byte / 255 - mean) / std, every operation rounded to float32: (N, 3, H, W)."""
    mean = torch.tensor(common.MEAN)[:, None, None]
    std = torch.tensor(common.STD)[:, None, None]
    return torch.stack([(image - mean) / std for image in batch])


def targets(boxes_and_labels, dtype=torch.float32):
    return [{"boxes": torch.tensor(t["boxes"], dtype=dtype).reshape(-1, 4),
             "labels": torch.tensor(t["labels"], dtype=torch.int64)} for t in boxes_and_labels]
