"""tests/goldens/formula.json: that C++ and Python make the same numbers of the same names."""

import numpy as np

import common
import models

SEED = 4
TENSORS = {
    "backbone.body.conv1.weight": (64, 3, 7, 7),
    "backbone.body.bn1.weight": (64,),
    "backbone.body.layer1.0.bn3.weight": (256,),
    "backbone.body.layer1.0.bn1.running_mean": (63,),
    "backbone.body.layer1.0.bn1.running_var": (5,),
    "backbone.fpn.inner_blocks.0.0.weight": (6, 512, 1, 1),
    "head.classification_head.cls_logits.bias": (36,),
    "head.regression_head.bbox_reg.weight": (36, 256, 3, 3),
    "head.regression_head.bbox_reg.bias": (36,),
}


def words_sum(array):
    """Sum of the float32 bit patterns modulo 2^64: equal only where every bit is."""
    return int(np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64).sum())


def main():
    state = common.formula_state(SEED, TENSORS)
    image = common.image_bytes(SEED, 1, 32, 64)
    labels = common.label_map(SEED, 1, 32, 64, 3)
    common.write_golden("formula.json", {
        "seed": SEED,
        "philox": common.philox(2**40 + 5, 3, common.fnv1a("stream"), 7, [9])[0].tolist(),
        "tensors": {k: {"shape": list(v.shape), "words_sum": words_sum(v),
                        "value": common.statistics(k, v)} for k, v in state.items()},
        "image": {"index": 1, "height": 32, "width": 64, "bytes_sum": int(image.sum()),
                  "first": image.reshape(-1)[:12].tolist(),
                  "normalised_words_sum": words_sum(models.normalised(
                      models.images(SEED, 2, 32, 64))[1].numpy())},
        "label_map": {"index": 1, "height": 32, "width": 64, "num_classes": 3,
                      "every_eighth_of_row_8": labels[8, ::8].tolist(),
                      "sum": int(labels.astype(np.int64).sum())}})


if __name__ == "__main__":
    main()
