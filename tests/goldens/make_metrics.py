"""Dice, Jaccard, 95 % Hausdorff distance and average surface distance by their MedPy definitions, with SciPy.

    python3 make_metrics.py LABEL_FOLDER metrics.json

LABEL_FOLDER holds left-atrium masks CASE.nii.gz; the first three serve as references, and moved, eroded or dilated copies of
them as predictions. Distances are in voxels.
"""

import json
import os
import sys

import nibabel
import numpy as np
from scipy import ndimage

from vnet_reference import noise

CROSS = ndimage.generate_binary_structure(3, 1)
GRID = (40, 36, 28)


def surface(mask):
    """Object voxels with a face neighbour outside the object; beyond the array is outside."""
    return mask & ~ndimage.binary_erosion(mask, CROSS)


def surface_distances(a, b):
    """Distance of every surface voxel of a to the nearest surface voxel of b."""
    return ndimage.distance_transform_edt(~surface(b))[surface(a)]


def measure(prediction, reference):
    both = int((prediction & reference).sum())
    sizes = int(prediction.sum()), int(reference.sum())
    there, back = surface_distances(prediction, reference), surface_distances(reference, prediction)
    return {
        "voxels": [*sizes, both],
        "surface_voxels": [there.size, back.size],
        "dc": 2 * both / sum(sizes),
        "jc": both / (sum(sizes) - both),
        "hd95": np.percentile(np.hstack([there, back]), 95),
        "asd": there.mean(),
        "asd_reverse": back.mean(),
    }


def paint(parts):
    """Union of ["ellipsoid", centre, radii], ["box", first, last] (inclusive), ["voxel", index] and ["speckle", number, t]."""
    x = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in GRID], indexing="ij"), -1)
    mask = np.zeros(GRID, bool)
    for kind, a, *rest in parts:
        if kind == "ellipsoid":
            mask |= (((x - a) / rest[0]) ** 2).sum(-1) <= 1
        elif kind == "box":
            mask |= ((x >= a) & (x <= rest[0])).all(-1)
        elif kind == "voxel":
            mask[tuple(a)] = True
        else:
            mask |= (noise(mask.size, a) > rest[0]).reshape(GRID)
    return mask


def random_blob(number, parts):
    """Ellipsoids anywhere in the grid, cut off by its borders; radii 2 to 9, all values with three decimals."""
    u = np.round(0.5 * noise(6 * parts, number).reshape(parts, 6) + 0.5, 3)
    return [["ellipsoid", np.round(v[:3] * GRID, 3).tolist(), np.round(2 + 7 * v[3:], 3).tolist()] for v in u]


def painted_cases():
    """Name: (prediction parts, reference parts)."""
    whole = [["box", [0, 0, 0], [n - 1 for n in GRID]]]
    outer = ["ellipsoid", [20.5, 17, 14], [11, 11, 7.5]]
    cases = {
        "A": ([["ellipsoid", [19, 17, 13], [12, 10, 8]], ["box", [34, 2, 2], [36, 3, 3]]], [outer]),
        "B": ([["ellipsoid", [20.5, 17, 24], [11, 11, 6]]], [["ellipsoid", [20.5, 17, 24], [11, 11, 7.5]]]),
        "equal": ([outer], [outer]),
        "single voxels": ([["voxel", [3, 4, 5]]], [["voxel", [30, 20, 10]]]),
        "single voxel in a corner against an ellipsoid": ([["voxel", [0, 0, 0]]], [outer]),
        "two voxels, n = 3 percentile": ([["voxel", [1, 1, 1]], ["voxel", [5, 1, 1]]], [["voxel", [1, 1, 2]]]),
        "whole grid against an ellipsoid": (whole, [outer]),
        "slabs on opposite borders": ([["box", [0, 0, 0], [2, 35, 27]]], [["box", [37, 0, 0], [39, 35, 27]]]),
        "plates of one voxel, touching three borders": ([["box", [0, 0, 7], [39, 20, 7]]], [["box", [5, 0, 9], [39, 35, 9]]]),
        "ellipsoid with distant speckle": ([outer, ["speckle", 7000, 0.998]], [outer]),
        "speckle against speckle": ([["speckle", 7001, 0.99]], [["speckle", 7002, 0.98]]),
    }
    for n in range(6):
        prediction = random_blob(7100 + n, 1 + n)
        cases[f"blobs {n}"] = prediction, prediction[: 1 + n // 3] + random_blob(7200 + n, 1 + n % 2)
    return cases


def moved(mask):
    """Shifted by +3 along axis 0, zeros coming in."""
    out = np.zeros_like(mask)
    out[3:] = mask[:-3]
    return out


def eroded(mask):
    return ndimage.binary_erosion(mask, CROSS)


def dilated(mask):
    return ndimage.binary_dilation(mask, CROSS)


def main():
    folder, target = sys.argv[1:]
    painted = []
    for name, (prediction, reference) in painted_cases().items():
        numbers = measure(paint(prediction), paint(reference))
        painted.append({"name": name, "prediction": prediction, "reference": reference, **numbers})
    names = sorted(f[: -len(".nii.gz")] for f in os.listdir(folder) if f.endswith(".nii.gz"))
    real = []
    for name in names[:3]:
        mask = np.asarray(nibabel.load(os.path.join(folder, name + ".nii.gz")).dataobj) > 0
        for change in (moved, eroded, dilated):
            real.append({"case": name, "shape": mask.shape, "prediction": change.__name__, **measure(change(mask), mask)})
    result = {
        "grid": GRID,
        "parts": "union of: ellipsoid [centre, radii] with sum(((x - c)/r)^2) <= 1; box [first, last], both included; voxel "
        "[index]; speckle [number p, t]: u(i, p) > t at flat index i (last axis fastest; u of vnet_reference.py)",
        "voxels": "prediction, reference, both",
        "real": "prediction = reference moved by +3 along axis 0 (zeros coming in), or eroded or dilated once by the "
        "6-neighbour cross (beyond the array is background)",
        "painted_cases": painted,
        "real_cases": real,
    }
    with open(target, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
