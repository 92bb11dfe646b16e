"""Images a second of one thread, torchvision and ridgeline alternating.

Decode, scale into a square, flip and normalise.

torchvision: io.decode_jpeg, resize with antialias on bytes, flip, to float, normalise, pad.
ridgeline: `bench --input` with one loader thread, which also reads boxes and draws the
augmentation; the images lie in the page cache on both sides.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

SETS = {"bccd": (".", "instances_train.json", 4),
        "coco_mini": ("images", "instances_train.json", 81)}
CONFIG = """\
model: {{name: retinanet, backbone: resnet18, num_classes: {classes}}}
data:
  format: coco
  root: {root}
  train: {{images: {images}, annotations: {annotations}}}
  size: [{size}, {size}]
  flip: 1
train: {{batch: 8, micro_batch: 8, steps: 100, seed: 1}}
runtime: {{device: cpu, threads: 1, loader_threads: 1}}
"""


def measure_peer(folder, annotations, size):
    import torch
    import torchvision
    from torchvision.transforms.v2 import functional as transform

    torch.set_num_threads(1)
    names = [image["file_name"] for image in json.loads(annotations.read_text())["images"]]
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

    def prepare(path):
        image = torchvision.io.decode_jpeg(torchvision.io.read_file(str(path)),
                                           torchvision.io.ImageReadMode.RGB)
        scale = min(size / image.shape[1], size / image.shape[2])
        image = transform.resize(image, [round(side * scale) for side in image.shape[1:]])
        image = transform.horizontal_flip(image)
        image = transform.normalize(transform.to_dtype(image, torch.float32, scale=True), mean, std)
        out = torch.zeros(3, size, size)
        out[:, :image.shape[1], :image.shape[2]] = image
        return out

    for name in names[:8]:
        prepare(folder / name)
    start = time.perf_counter()
    for name in names:
        prepare(folder / name)
    return len(names) / (time.perf_counter() - start)


def measure_ridgeline(program, config, steps):
    command = [program, "bench", config, "--input", "--json", "--steps", str(steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    return json.loads(done.stdout)["images_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=pathlib.Path, help="folder with " + " and ".join(SETS))
    parser.add_argument("--ridgeline", default="./build/ridgeline")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help=argparse.SUPPRESS)  # one measurement, in its own process
    arguments = parser.parse_args()
    root = arguments.data.resolve()
    if arguments.peer:
        images, annotations, _ = SETS[arguments.peer]
        folder = root / arguments.peer
        print(measure_peer(folder / images, folder / annotations, arguments.size))
        return 0
    for name, (images, annotations, classes) in SETS.items():
        ours, theirs = [], []
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
            config.write(CONFIG.format(root=root / name, images=images, annotations=annotations,
                                       classes=classes, size=arguments.size))
            config.flush()
            for _ in range(arguments.rounds):
                peer = [sys.executable, __file__, root, "--size", str(arguments.size), "--peer",
                        name]
                theirs.append(float(subprocess.run(peer, check=True, capture_output=True).stdout))
                ours.append(measure_ridgeline(arguments.ridgeline, config.name, 40))
        a, b = statistics.median(ours), statistics.median(theirs)
        print(f"{name}, {arguments.size} px: torchvision {b:.0f}, ridgeline {a:.0f} images/s, "
              f"ratio {a / b:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
