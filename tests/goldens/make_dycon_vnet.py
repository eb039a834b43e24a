#!/usr/bin/env python3
"""Prints the numbers of tests/dycon_test.cpp for vnet_dycon: PyTorch's V-Net without norms with DyCON's projection.

Weights and image come from the formula of tests/network_check.hpp (fill_by_tags). Made with PyTorch 1.13.
"""
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vnet_reference import VNet


def u(count, tag):
    h = (np.arange(count, dtype=np.uint64) + np.uint64(7919 * tag)) * np.uint64(2654435761) & np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(16)
    h = h * np.uint64(2246822519) & np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(13)
    return h.astype(np.float64) / 4294967296.0 - 0.5


def without_norms(net):
    for name, module in list(net.named_children()):
        if isinstance(module, nn.BatchNorm3d):
            setattr(net, name, nn.Identity())
        else:
            without_norms(module)
    return net


class DyconVNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = without_norms(VNet(16))
        self.unused = nn.Conv3d(16, 2, 1)
        self.projection = nn.Sequential(nn.Conv3d(256, 512, 1), nn.BatchNorm3d(512), nn.Conv3d(512, 256, 1))

    def forward(self, x):
        seen = []
        handle = self.net.block_five.register_forward_hook(lambda *a: seen.append(a[2]))
        logits = self.net(x)
        handle.remove()
        grid = F.interpolate(seen[0], scale_factor=2, mode="trilinear", align_corners=True)
        return logits, self.projection(grid)


net = DyconVNet().double()
tag = 0
with torch.no_grad():
    for module in net.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            w = module.weight
            values = np.sqrt(24 / (w.numel() // w.shape[0])) * u(w.numel(), tag)
            w.copy_(torch.from_numpy(values.astype(np.float32)).view_as(w))
            bias = (0.1 * u(module.bias.numel(), tag + 500)).astype(np.float32)
            module.bias.copy_(torch.from_numpy(bias))
            tag += 1
    x = torch.from_numpy((2 * u(2 * 32**3, 1000)).astype(np.float32)).view(2, 1, 32, 32, 32).double()
    print(tag, "convolutions,", sum(p.numel() for p in net.parameters()), "parameters")
    for mode in ("eval", "train"):
        logits, features = net.train(mode == "train")(x)
        for name, t in (("logits", logits), ("features", features)):
            flat = t.flatten()
            print(mode, name, "%.7f %.7f %.7f %.7f" % (t.mean(), t.std(unbiased=False), flat[0], flat[-1]))
