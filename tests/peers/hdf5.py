"""model.h5: one dataset a tensor at the root of the file, under its torchvision name."""

import pathlib

import h5py
import numpy as np
import torch


def read(path):
    """A checkpoint folder or a weight file -> {name: array}."""
    path = pathlib.Path(path)
    with h5py.File(path / "model.h5" if path.is_dir() else path) as file:
        return {k: v[()] for k, v in file.items()}


def write(path, state):
    with h5py.File(path, "w") as file:
        for name, value in state.items():
            file[name] = np.asarray(value)


def as_state_dict(arrays):
    return {k: torch.as_tensor(v) for k, v in arrays.items()}
