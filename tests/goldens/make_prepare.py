#!/usr/bin/env python3
"""Prints the numbers that tests/prepare_test.cpp holds: the field's preprocessing of Pancreas-CT and BraTS by NumPy,
SciPy and scikit-image on synthetic scans. Made with NumPy 1.24, SciPy 1.10.1, scikit-image 0.19.3.
"""
import numpy as np
from scipy import ndimage
from skimage import exposure


def scan(shape):
    i, j, k = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    return np.round(200 * np.sin(0.31 * i + 0.17 * j) * np.cos(0.23 * k) + 40 + 3 * k).astype(np.float32)


def box(shape, low, high):
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(a, b) for a, b in zip(low, high))] = 1
    return label


def show(name, image, label):
    image = image.astype(np.float64)
    n = image.shape
    points = [image[0, 0, 0], image[n[0] // 2, n[1] // 3, n[2] // 2], image[-1, -1, -1]]
    print(name, "shape {%d, %d, %d}, mean %.9f, mean square %.9f, values {%s}, label %d" %
          (*n, image.mean(), (image ** 2).mean(), ", ".join("%.7f" % p for p in points), label.sum()))


def resample(image, label, size, step, order):
    grid = np.meshgrid(*[np.arange(n) * s for n, s in zip(size, step)], indexing="ij")
    if order == 3:
        coefficients = ndimage.spline_filter(image.astype(np.float64), 3, mode="mirror")
        out = ndimage.map_coordinates(coefficients, grid, order=3, prefilter=False, mode="mirror")
        edge = [g > n - 0.5 for g, n in zip(grid, image.shape)]
        out[edge[0] | edge[1] | edge[2]] = 0
    else:
        out = ndimage.map_coordinates(image.astype(np.float64), grid, order=1, mode="constant", cval=0)
    index = [np.floor(g + 0.5).astype(int) for g in grid]
    inside = np.all([i < n for i, n in zip(index, label.shape)], axis=0)
    new = np.where(inside, label[tuple(np.minimum(i, n - 1) for i, n in zip(index, label.shape))], 0)
    return out, new


def mc_net(image, label, spacing):
    size = [int(n * s) for n, s in zip(image.shape, spacing)]
    image, label = resample(image, label, size, [1 / s for s in spacing], 3)
    image = (np.clip(image, -125, 275) + 125) / 400
    where = np.where(label > 0)
    part = []
    for axis in (0, 1):
        low, high = where[axis].min(), where[axis].max()
        p = max(96 - (high - low), 0) // 2
        part.append(slice(max(low - p - 25, 0), min(high + p + 25, size[axis])))
    image, label = image[part[0], part[1]], label[part[0], part[1]]
    return (image - image.mean()) / image.std(), label


def coranet(image, label, spacing):
    s = spacing[0]
    size = [int(np.round(n * s)) for n in image.shape]
    image, label = resample(image, label, size, [1 / s] * 3, 1)
    image = np.clip(np.sign(image) * np.floor(np.abs(image) + 0.5), -125, 275)
    image = (image - image.min()) / (image.max() - image.min())
    where = np.where(label > 0)
    part, pad = [], []
    for axis in range(3):
        low, high = max(where[axis].min() - 25, 0), min(where[axis].max() + 2 + 25, size[axis])
        if high - low < 96:
            missing = 96 - (high - low)
            low, high = low - missing // 2, high + missing - missing // 2
            if low < 0:
                low, high = 0, high - low
            if high > size[axis]:
                low, high = max(low - (high - size[axis]), 0), size[axis]
        part.append(slice(low, high))
        pad.append((0, max(96 - (high - low), 0)))
    return np.pad(image[tuple(part)], pad), np.pad(label[tuple(part)], pad)


def rcps(image, label, spacing):
    size = [int(n * s) for n, s in zip(image.shape, spacing)]
    grid = np.meshgrid(*[np.arange(n) / s for n, s in zip(size, spacing)], indexing="ij")
    inside = np.all([g <= n - 0.5 for g, n in zip(grid, image.shape)], axis=0)

    def linear(values):
        return np.where(inside, ndimage.map_coordinates(values.astype(np.float64), grid, order=1, mode="nearest"), 0)

    image, label = np.clip(linear(image), -125, 275), (linear(label) >= 0.5).astype(np.uint8)
    image = (image - image.min()) / (image.max() - image.min())
    where = np.where(label > 0)
    part = []
    for axis in range(3):
        low, high = where[axis].min(), where[axis].max()
        p = max(96 - (high - low), 0) // 2
        part.append(slice(max(low - p - 25, 0), min(high + p + 25, size[axis])))
    return image[tuple(part)], label[tuple(part)]


def brats(image, label):
    where = np.where(image != 0)
    part = tuple(slice(w.min(), w.max()) for w in where)
    image, label = image[part], label[part]
    cdf, centres = exposure.cumulative_distribution(image)
    clip = centres[np.argmax(cdf >= 0.999)]
    image = np.minimum(image.astype(np.float64), clip)
    brain = image[image > 0]
    print("  clip at %.9f" % clip)
    return (image - brain.mean()) / brain.std(), (label > 0).astype(np.uint8)


shape = (150, 160, 20)
image, label = scan(shape), box(shape, (60, 70, 6), (90, 81, 14))
spacing = (0.8125, 0.8125, 1.25)
show("mc_net", *mc_net(image, label, spacing))
show("coranet", *coranet(image, label, spacing))
show("rcps", *rcps(image, label, spacing))
thick = (0.75, 0.75, 2.5)
show("mc_net, thick slices", *mc_net(image, label, thick))
show("rcps, thick slices", *rcps(image, label, thick))
head = np.zeros((40, 44, 36), np.int16)
head[5:33, 6:37, 4:30] = np.maximum(scan((28, 31, 26)), 0).astype(np.int16)
tumour = box(head.shape, (10, 12, 8), (20, 22, 18)) * 4
show("brats, integers", *brats(head, tumour))
show("brats, floats", *brats((head * np.float32(0.37)).astype(np.float32), tumour))
