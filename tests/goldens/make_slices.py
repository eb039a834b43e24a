#!/usr/bin/env python3
"""Prints the numbers that tests/slices_test.cpp holds: FNV-1a hashes of what SciPy's zoom and rotate of order 0 do.

scipy.ndimage numbers every pixel of a slice from 1; 0 is what lies outside. Made with SciPy 1.10.1.
"""
import numpy as np
from scipy import ndimage


def fnv(values, state=0xCBF29CE484222325):
    for value in np.asarray(values, dtype=np.int64).ravel().tolist():
        for byte in int(value).to_bytes(4, "little", signed=True):
            state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state


def numbered(height, width):
    return np.arange(1, height * width + 1, dtype=np.float64).reshape(height, width)


state = 0xCBF29CE484222325
outside = []
for n in range(16, 401):
    there = ndimage.zoom(numbered(1, n)[0], 256 / n, order=0)
    back = ndimage.zoom(numbered(1, 256)[0], n / 256, order=0)
    assert len(there) == 256 and len(back) == n and (there > 0).all()
    if (back == 0).any():
        outside.append(n)
    state = fnv(back, fnv(there, state))
print("zoom 16 ... 400 <-> 256: 0x%016x" % state)
print("outside:", outside)
for height, width, degrees in [(20, 33, 7), (31, 24, -20), (64, 64, 19), (50, 41, -1), (216, 256, 13), (37, 37, -9)]:
    rotated = ndimage.rotate(numbered(height, width), degrees, order=0, reshape=False)
    print("{%d, %d, %d, 0x%016xu}," % (height, width, degrees, fnv(rotated)))
# The whole of RandomGenerator on one slice: rotate, then zoom.
slice_ = ndimage.rotate(numbered(45, 52), 11, order=0, reshape=False)
print("rotate and zoom: 0x%016xu" % fnv(ndimage.zoom(slice_, (64 / 45, 80 / 52), order=0)))
turned = np.flip(np.rot90(numbered(45, 52), 1), axis=1)
print("turn, flip and zoom: 0x%016xu" % fnv(ndimage.zoom(turned, (64 / 52, 80 / 45), order=0)))
