"""Training steps of PyTorch and of ridgeline on the CPU, alternating, and their ratio.

Each measurement is a process of its own. PyTorch runs NCHW, channels_last and, with --compile,
torch.compile; the best of them counts. Whole steps: forward, loss, backward, SGD with momentum
and decay.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

CASES = {
    "retinanet_r50_256_b2": {"name": "retinanet", "backbone": "resnet50", "num_classes": 91,
                             "norm": "frozen", "stages": 3, "size": 256, "batch": 2},
    "retinanet_r50_512_b1": {"name": "retinanet", "backbone": "resnet50", "num_classes": 91,
                             "norm": "frozen", "stages": 3, "size": 512, "batch": 1},
    "retinanet_r18_256_b4": {"name": "retinanet", "backbone": "resnet18", "num_classes": 91,
                             "norm": "frozen", "stages": 3, "size": 256, "batch": 4},
    "fcn_r50_256_b2": {"name": "fcn", "backbone": "resnet50", "num_classes": 21, "norm": "batch",
                       "stages": 5, "size": 256, "batch": 2},
}
LAYOUTS = ("nchw", "channels_last", "compile")
CONFIG = """\
model: {{name: {name}, backbone: {backbone}, num_classes: {num_classes}, norm: {norm},
        trainable_stages: {stages}}}
data: {{size: [{size}, {size}]}}
train: {{batch: {batch}, micro_batch: {batch}, steps: 100, seed: 1}}
optimizer: {{name: sgd, lr: 0.0001, momentum: 0.9}}
regularization: {{l2: 1.0e-4, rules: []}}
runtime: {{device: cpu, threads: {threads}, conv: {conv}}}
"""


def peer_step(case, layout):
    """A function that runs one PyTorch step."""
    import torch

    import common
    import models
    import training

    size, batch = case["size"], case["batch"]
    images = models.images(1, batch, size, size)
    if case["name"] == "fcn":
        model, losses_of = models.fcn(case["backbone"], case["num_classes"]), training.fcn_losses
        labels = [common.label_map(1, i, size, size, case["num_classes"]) for i in range(batch)]
        data = models.normalised(images), torch.stack([torch.from_numpy(x) for x in labels]).long()
    else:
        model = models.retinanet(case["backbone"], case["num_classes"], case["norm"],
                                 case["stages"])
        losses_of = training.retinanet_losses
        corners = [[10 + 24 * i, 12 + 20 * i, 58 + 24 * i, 70 + 20 * i] for i in range(8)]
        data = images, models.targets([{"boxes": corners, "labels": list(range(1, 9))}] * batch)
    models.load_formula(model, 1).train()
    if layout != "nchw":
        model = model.to(memory_format=torch.channels_last)
    if layout == "compile":
        model.backbone = torch.compile(model.backbone)
        for head in ("head", "classifier", "aux_classifier"):
            if hasattr(model, head):
                getattr(model, head).compile()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4,
                                momentum=0.9, weight_decay=1e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        training.total(losses_of(model, *data)).backward()
        optimizer.step()
    return step


def peer(arguments, started):
    """The body of a PyTorch process: prints one JSON object."""
    import torch

    torch.set_num_threads(arguments.threads)
    step = peer_step(CASES[arguments.case[0]], arguments.peer)
    step()
    first = time.time() - started
    for _ in range(2):
        step()
    seconds = []
    for _ in range(arguments.steps):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({
        "step_p50_seconds": statistics.median(seconds), "first_step_seconds": first,
        "memory_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def measure(command, threads):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
    text = output.decode()
    return json.loads(text[text.index("{"):])


def commands(arguments, name, config):
    """{column: command}, ridgeline first."""
    options = ["--steps", str(arguments.steps)]
    table = {"ridgeline": [arguments.ridgeline, "bench", str(config), *options, "--json"]}
    if arguments.floor:
        table["ridgeline"].append("--floor")
    for layout in LAYOUTS[:3 if arguments.compile else 2]:
        table[layout] = [sys.executable, __file__, name, "--peer", layout, *options,
                         "--threads", str(arguments.threads), "--started"]
    return table


def benchmark(arguments, name):
    with tempfile.TemporaryDirectory() as work:
        config = pathlib.Path(work) / "bench.yaml"
        config.write_text(CONFIG.format(**CASES[name], threads=arguments.threads,
                                        conv=arguments.conv))
        results = {}
        for _ in range(arguments.rounds):
            for column, command in commands(arguments, name, config).items():
                if column != "ridgeline":
                    command = [*command, str(time.time())]
                results.setdefault(column, []).append(measure(command, arguments.threads))
    return results


def print_table(name, results):
    def median(column, key):
        return statistics.median(r[key] for r in results[column])

    print(f"\n{name}\n{'':<15}{'step ms':>10}{'first s':>10}{'peak MiB':>10}")
    for column in results:
        print(f"{column:<15}{median(column, 'step_p50_seconds') * 1e3:>10.1f}"
              f"{median(column, 'first_step_seconds'):>10.2f}"
              f"{median(column, 'memory_peak_bytes') / 2**20:>10.0f}")
    for key in ("step_p50_seconds", "first_step_seconds", "memory_peak_bytes"):
        best = min(median(c, key) for c in results if c != "ridgeline")
        print(f"best PyTorch / ridgeline, {key}: {best / median('ridgeline', key):.2f}")
    for key, value in results["ridgeline"][-1].items():
        if "floor" in key:
            print(f"{key}: {value}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--ridgeline", default="./build/ridgeline")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conv", choices=("auto", "direct"), default="auto")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (a minute)")
    parser.add_argument("--floor", action="store_true", help="ridgeline's floor as well")
    parser.add_argument("--peer", choices=LAYOUTS, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments, arguments.started or time.time())
    for name in arguments.case:
        print_table(name, benchmark(arguments, name))


if __name__ == "__main__":
    main()
