"""export_backbone.py NAME FILE [STATE_DICT]: an ImageNet classifier of torchvision as HDF5.

NAME is resnet18|34|50|101; without STATE_DICT (a .pth file) torchvision downloads its default
weights. FILE then serves `ridgeline train --init-backbone FILE`. The same in two lines, for a
model m:

    with h5py.File("backbone.h5", "w") as f:
        for name, value in m.state_dict().items(): f[name] = value.numpy()
"""

import sys

import torch
import torchvision

import hdf5


def main(name, file_name, state_dict=None):
    model = torchvision.models.get_model(name, weights=None if state_dict else "DEFAULT")
    if state_dict:
        model.load_state_dict(torch.load(state_dict, weights_only=True), strict=True)
    hdf5.write(file_name, {k: v.numpy() for k, v in model.state_dict().items()})
    print(f"{file_name}: {len(model.state_dict())} tensors of {name}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
