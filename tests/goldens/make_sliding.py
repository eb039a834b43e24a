"""Sliding-window prediction of a V-Net in PyTorch: the reference of the prediction tests.

    python3 make_sliding.py sliding.json

Weights, running statistics and volumes come from formulas (vnet_reference.py). Windows start at min(i * stride, S - P),
i = 0 .. ceil((S - P) / stride); softmax probabilities are averaged with equal weights. An axis shorter than the patch is
zero-padded to it, floor(d/2) voxels in front, and the result is cut back.
"""

import itertools
import json
import math
import sys

import numpy as np
import torch

from vnet_reference import VNet, fill_running_statistics, fill_weights, noise

FILTERS, CLASSES = 8, 2
PATCH, STRIDE = (64, 64, 32), (16, 16, 8)
VOLUMES = {"windows": (70, 68, 40), "padded": (70, 61, 29)}
POSITIONS = 200


def volume(shape):
    """Float32 image; the last axis is fastest."""
    count = math.prod(shape)
    return (np.sin(0.013 * np.arange(count)) + 0.5 * noise(count, 9999)).astype(np.float32).reshape(shape)


def network(dtype):
    return fill_running_statistics(fill_weights(VNet(FILTERS, CLASSES).to(dtype))).eval()


@torch.no_grad()
def predict(net, image, dtype):
    """Mean softmax probabilities (C, D, H, W) as NumPy array."""
    short = [max(p - s, 0) for s, p in zip(image.shape, PATCH)]
    padded = torch.from_numpy(np.pad(image, [(d // 2, d - d // 2) for d in short])).to(dtype)
    score = torch.zeros((CLASSES, *padded.shape), dtype=dtype)
    count = torch.zeros(padded.shape, dtype=dtype)
    starts = [
        [min(i * step, s - p) for i in range(math.ceil((s - p) / step) + 1)]
        for s, p, step in zip(padded.shape, PATCH, STRIDE)
    ]
    for start in itertools.product(*starts):
        window = tuple(slice(a, a + p) for a, p in zip(start, PATCH))
        score[(slice(None), *window)] += net(padded[window][None, None]).softmax(1)[0]
        count[window] += 1
    inner = tuple(slice(d // 2, d // 2 + s) for d, s in zip(short, image.shape))
    return (score / count)[(slice(None), *inner)].double().numpy()


def golden(shape):
    image = volume(shape)
    foreground = predict(network(torch.float64), image, torch.float64)[1]
    deviation = np.abs(predict(network(torch.float32), image, torch.float32)[1] - foreground).max()
    labels = foreground > 0.5
    # A stride coprime to the axes spreads the positions over all rows, borders and window overlaps.
    positions = sorted({i * 104729 % image.size for i in range(POSITIONS - 2)} | {0, image.size - 1})
    return {
        "shape": shape,
        "image_sum": float(image.astype(np.float64).sum()),
        "positions": positions,
        "probabilities": [float(f"{foreground.flat[i]:.9g}") for i in positions],
        "mean": foreground.mean(),
        "sum": foreground.sum(),
        "min": foreground.min(),
        "max": foreground.max(),
        "foreground_voxels": int(labels.sum()),
        "label_checksum": int(np.flatnonzero(labels).sum()),
        "float32_deviation": float(deviation),
        "undecided": {f"{d:g}": int((np.abs(foreground - 0.5) < d).sum()) for d in (1e-6, 1e-5, 1e-4)},
    }


def main():
    result = {
        "network": {"name": "vnet", "filters": FILTERS, "channels": 1, "classes": CLASSES, "norm": "batch"},
        "weights": "as in replay.json; running mean of normalisation layer j: 0.05 u(., 2000 + 2j), "
        "running variance: 1 + 0.3 |u(., 2001 + 2j)|, rounded to float32",
        "image": "flat index i (last axis fastest): float32(sin(0.013 i) + 0.5 u(i, 9999))",
        "patch": PATCH,
        "stride": STRIDE,
        "probabilities": "of class 1 at the flat indices in positions; min, max, mean and sum are over all voxels",
        "label_checksum": "sum of the flat indices of all foreground voxels (probability > 0.5)",
        "undecided": "number of voxels nearer to 0.5 than the key: what rounding may change in the labels",
        "volumes": {name: golden(shape) for name, shape in VOLUMES.items()},
    }
    with open(sys.argv[1], "w") as file:
        json.dump(result, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
