"""Training steps of torchvision on a GPU, with the keys of `ridgeline bench --json`.

What launch/gpu-check measures ridgeline against: autocast in bf16, channels_last, fused SGD, and
torch.compile over backbone and heads. Whole steps on data that lie on the GPU: forward, losses,
backward, update. RetinaNet with frozen norms trains what ridgeline trains.
"""

import argparse
import json
import math
import os
import statistics
import time

import torch

import models
import training

WARM_UP = 10
BOXES = 7


def process_start():
    """Seconds of time.time() at which this process started."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    with open("/proc/uptime") as file:
        uptime = float(file.read().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def detection_data(arguments, device):
    side = arguments.side
    images = list(torch.rand(arguments.batch, 3, side, side, device=device))
    corner = torch.rand(arguments.batch, BOXES, 2, device=device) * 0.7 * side
    boxes = torch.cat([corner, corner + 0.05 * side + 0.2 * side * torch.rand_like(corner)], 2)
    labels = torch.randint(1, arguments.classes, (arguments.batch, BOXES), device=device)
    return images, [{"boxes": b, "labels": n} for b, n in zip(boxes, labels)]


def segmentation_data(arguments, device):
    shape = arguments.batch, arguments.side, arguments.side
    images = torch.randn(shape[0], 3, *shape[1:], device=device)
    return (images.contiguous(memory_format=torch.channels_last),
            torch.randint(0, arguments.classes, shape, device=device))


def quieten(model):
    """Fresh residual branches that nothing normalises would add up to infinity."""
    for block in model.modules():
        if hasattr(block, "downsample") and hasattr(block, "conv2"):
            getattr(block, "bn3", block.bn2).weight.data.fill_(0.2)


def make_step(arguments, device):
    """A function that runs one step."""
    if arguments.model == "fcn":
        model = models.fcn(arguments.backbone, arguments.classes, norm=arguments.norm)
        losses_of, data = training.fcn_losses, segmentation_data(arguments, device)
    else:
        model = models.retinanet(arguments.backbone, arguments.classes, arguments.norm,
                                 arguments.stages)
        losses_of, data = (lambda m, *batch: m(*batch)), detection_data(arguments, device)
    quieten(model)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    if arguments.column == "compile":
        model.backbone.compile()
        for head in ("head", "classifier", "aux_classifier"):
            if hasattr(model, head):
                getattr(model, head).compile()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4,
                                momentum=0.9, weight_decay=1e-4, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = training.total(losses_of(model, *data))
        loss.backward()
        optimizer.step()
    return step


def seconds_of(step, count, device):
    """Seconds of each of `count` steps; on a GPU by events, the host not waiting in between."""
    if device.type == "cpu":
        marks = [time.perf_counter()]
        for _ in range(count):
            step()
            marks.append(time.perf_counter())
        return [b - a for a, b in zip(marks, marks[1:])]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        step()
        event.record()
    torch.cuda.synchronize()
    return [1e-3 * a.elapsed_time(b) for a, b in zip(events, events[1:])]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("column", choices=("eager", "compile"))
    parser.add_argument("model", choices=("retinanet", "fcn"))
    parser.add_argument("backbone")
    parser.add_argument("classes", type=int)
    parser.add_argument("norm", choices=("frozen", "batch"))
    parser.add_argument("stages", type=int)
    parser.add_argument("side", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    step = make_step(arguments, device)
    seconds_of(step, 1, device)
    first = time.time() - process_start()
    seconds_of(step, WARM_UP, device)
    seconds = sorted(seconds_of(step, arguments.steps, device))
    on_gpu = device.type == "cuda"
    print(json.dumps({
        "images_per_second": arguments.batch / statistics.fmean(seconds),
        "step_p50_seconds": statistics.median(seconds),
        "step_p99_seconds": seconds[math.ceil(0.99 * len(seconds)) - 1],
        "first_step_seconds": first,
        "memory_peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else 0,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "torch": torch.__version__}))


if __name__ == "__main__":
    main()
