"""check_seeds.py CASE FIRST LAST: how far rounding moves the gradients of a golden's case.

A ReLU whose input is within rounding of zero makes a gradient that no two correct programs agree
on (1e-3 of its norm and more). The goldens use seeds without one; this finds them.
"""

import sys

import torch

import fcn_goldens
import retinanet_goldens
import training


def main(name, first, last):
    torch.set_num_threads(1)
    module = fcn_goldens if name in fcn_goldens.CASES else retinanet_goldens
    for seed in range(int(first), int(last) + 1):
        tensors = module.run({**module.CASES[name], "seed": seed}).tensors(with_changes=True)
        print(seed, {k: f"{v:.1e} {n}" for k, (v, n) in training.worst(tensors).items()})


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
