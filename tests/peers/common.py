"""Numbers both sides make from a formula (tests/goldens/README.md), and torchvision's models.

Weights are too big to store, so a tensor is a pure function of its name and shape: Philox4x32-10
keyed as in comm/random.h, with the seed of the case. tests/goldens/formula.h is the same in C++.
"""

import json
import math
import pathlib

import numpy as np

SIGN_SEED = 1
PURPOSE = 1  # comm::Purpose::kInitialization
EPOCH_VALUES, EPOCH_SIGNS = 0, 1
NUM_PROJECTIONS, NUM_FIRST = 8, 16
GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def fnv1a(name):
    """FNV-1a, 64 bits, over the bytes of the name."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def philox(seed, purpose, stream, epoch, draw):
    """comm::philox for an array of draws: (n,) -> uint32 (n, 4)."""
    u64, low = np.uint64, np.uint64(0xFFFFFFFF)
    key = [seed & 0xFFFFFFFF, (seed >> 32) ^ ((purpose << 24) & 0xFFFFFFFF)]
    c3 = np.asarray(draw, dtype=u64)
    c0 = np.full_like(c3, stream & 0xFFFFFFFF)
    c1 = np.full_like(c3, stream >> 32)
    c2 = np.full_like(c3, epoch)
    for _ in range(10):
        p0, p1 = c0 * u64(0xD2511F53), c2 * u64(0xCD9E8D57)
        c0, c1 = (p1 >> u64(32)) ^ c1 ^ u64(key[0]), p1 & low
        c2, c3 = (p0 >> u64(32)) ^ c3 ^ u64(key[1]), p0 & low
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def bits(seed, name, count, epoch=EPOCH_VALUES):
    """`count` words of 32 bits: word i is lane i % 4 of draw i / 4."""
    out = np.empty((count + 3) // 4 * 4, dtype=np.uint32)
    step = 1 << 15
    for begin in range(0, len(out) // 4, step):
        draws = np.arange(begin, min(begin + step, len(out) // 4))
        words = philox(seed, PURPOSE, fnv1a(name), epoch, draws)
        out[begin * 4:begin * 4 + words.size] = words.reshape(-1)
    return out[:count]


def values(seed, name, shape, center, scale):
    """float32(center + scale * (2u - 1)); with float32 center and scale the product is exact in
    float64, so a fused multiply-add changes nothing."""
    count = math.prod(shape)
    t = (bits(seed, name, count) >> 8).astype(np.float64) / 8388608.0 - 1.0
    return (float(np.float32(center)) + float(np.float32(scale)) * t).astype(np.float32).reshape(
        shape)


def rule(name, shape):
    """(center, scale) of a state_dict entry, by its name and shape."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_mean":
        return 0.0, 0.1
    if leaf == "running_var":
        return 1.0, 0.4
    if name.endswith("cls_logits.bias"):
        return -4.59511985, 0.3  # about -log(99): a prior of 0.01
    if leaf == "bias":
        return 0.0, 0.1
    if name.endswith(".bn3.weight"):
        return 0.2, 0.1  # last norm of a bottleneck: small, or rounding grows from block to block
    if len(shape) == 1:
        return 1.0, 0.2  # any other norm's weight
    linear = ".fpn." in name or name.endswith("bbox_reg.weight")
    return 0.0, math.sqrt((1.0 if linear else 3.0) / math.prod(shape[1:]))


def formula_state(seed, shapes):
    """{name: shape} -> {name: array}; num_batches_tracked is 0."""
    return {
        n: np.zeros((), np.int64) if n.endswith("num_batches_tracked") else values(
            seed, n, s, *rule(n, s))
        for n, s in shapes.items()
    }


def image_bytes(seed, index, height, width):
    """uint8 (H, W, 3), RGB: the high byte of each word of stream "image:INDEX"."""
    words = bits(seed, f"image:{index}", height * width * 3)
    return (words >> 24).astype(np.uint8).reshape(height, width, 3)


def label_map(seed, index, height, width, num_classes):
    """uint8 (H, W): one class per 8 x 8 square, value num_classes means ignored (255)."""
    rows, columns = height // 8, width // 8
    v = (bits(seed, f"labels:{index}", rows * columns) >> 8) % (num_classes + 1)
    v = np.where(v == num_classes, 255, v).astype(np.uint8).reshape(rows, columns)
    return v.repeat(8, 0).repeat(8, 1)


def statistics(name, array):
    """[L2 norm, sum, 8 random-sign projections, first 16 elements], in float64."""
    flat = np.asarray(array, dtype=np.float64).reshape(-1)
    words = bits(SIGN_SEED, name, flat.size, EPOCH_SIGNS)
    projections = [
        float(flat.sum() - 2.0 * flat[(words >> np.uint32(k)) & np.uint32(1) == 1].sum())
        for k in range(NUM_PROJECTIONS)
    ]
    norm = float(np.sqrt(np.square(flat).sum()))
    return [norm, float(flat.sum()), *projections, *map(float, flat[:NUM_FIRST])]


def distance(measured, reference):
    """||measured - reference|| / ||reference||; 0 where both are zero."""
    measured, reference = (np.asarray(x, np.float64).reshape(-1) for x in (measured, reference))
    error, norm = np.linalg.norm(measured - reference), np.linalg.norm(reference)
    return float(error / norm) if norm > 0 else (0.0 if error == 0 else math.inf)


def rounded(value):
    """Floats to nine significant digits (they name a float32 exactly), containers recursively."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    if isinstance(value, np.ndarray):
        return rounded(value.tolist())
    if isinstance(value, (float, np.floating)):
        assert math.isfinite(value)
        short = float(f"{value:.9g}")
        return int(short) if short == int(short) and abs(short) < 1e9 else short
    return value


def write_golden(file_name, content):
    """Compact JSON; one line per entry down to two levels, so that a difference can be read."""
    def text(value, depth):
        if depth == 0 or not isinstance(value, dict) or not value:
            return json.dumps(value, separators=(",", ":"))
        lines = ",\n".join(f"{json.dumps(k)}:{text(v, depth - 1)}" for k, v in value.items())
        return "{\n" + lines + "\n}"

    path = GOLDENS / file_name
    path.write_text(text(rounded(content), 2) + "\n")
    assert path.stat().st_size <= 300_000, path
    print(f"{path.relative_to(GOLDENS.parent.parent)} {path.stat().st_size} bytes")
