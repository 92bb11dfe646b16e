"""load_into_torchvision.py CHECKPOINT MODEL: model.h5 into torchvision with strict=True.

CHECKPOINT is a checkpoint folder or an HDF5 file, MODEL retinanet_resnet18|34|50|101 or
fcn_resnet50|101. Classes, kind of norm and auxiliary head follow from the tensors.
"""

import sys

import numpy as np

import hdf5
import models


def main(checkpoint, model_name):
    arrays = hdf5.read(checkpoint)
    model, found = models.matching({k: v.shape for k, v in arrays.items()})
    if found != model_name:
        sys.exit(f"{checkpoint} holds a {found}, not a {model_name}")
    for name, value in arrays.items():
        expected = np.int64 if name.endswith("num_batches_tracked") else np.float32
        if value.dtype != expected:
            sys.exit(f"{name}: {value.dtype}, expected {np.dtype(expected)}")
        if not np.isfinite(value).all():
            sys.exit(f"{name}: not finite")
    model.load_state_dict(hdf5.as_state_dict(arrays), strict=True)
    print(f"OK: {len(arrays)} tensors, {sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
