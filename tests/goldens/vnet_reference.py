"""V-Net in PyTorch and the formulas for weights and data shared by the golden scripts.

Both sides (these scripts and the C++ tests) evaluate the same formulas, so no array is ever stored.
Everything is rounded to float32 first and only then widened, so a float64 run starts from the same numbers.
"""

import numpy as np
import torch
from torch import nn


def noise(count, number):
    """u(i, number) for i = 0..count-1: a 32-bit integer hash mapped to [-1, 1), as float64."""
    m = np.uint64(0xFFFFFFFF)
    i = np.arange(count, dtype=np.uint64)
    s = ((i + np.uint64(1)) * np.uint64(747796405) + np.uint64((number + 1) * 2891336453 & 0xFFFFFFFF)) & m
    w = (((s >> ((s >> np.uint64(28)) + np.uint64(4))) ^ s) * np.uint64(277803737)) & m
    r = (w >> np.uint64(22)) ^ w
    return 2.0 * r.astype(np.float64) / 2.0**32 - 1.0


class Block(nn.Module):
    """A chain of (convolution, batch normalisation, ReLU) triples, named conv.0, conv.1, conv.2, conv.3, ..."""

    def __init__(self, *convolutions):
        super().__init__()
        layers = []
        for conv in convolutions:
            layers += [conv, nn.BatchNorm3d(conv.out_channels), nn.ReLU()]
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        return self.conv(x)


def stage(count, c_in, c_out):
    return Block(*[nn.Conv3d(c_in if n == 0 else c_out, c_out, 3, padding=1) for n in range(count)])


def down(c_in):
    return Block(nn.Conv3d(c_in, 2 * c_in, 2, stride=2))


def up(c_in):
    return Block(nn.ConvTranspose3d(c_in, c_in // 2, 2, stride=2))


class VNet(nn.Module):
    """The V-Net of the semi-supervised literature: batch norm, skips by addition, no dropout, no residuals."""

    def __init__(self, filters, classes=2, channels=1):
        super().__init__()
        f = filters
        self.block_one = stage(1, channels, f)
        self.block_one_dw = down(f)
        self.block_two = stage(2, 2 * f, 2 * f)
        self.block_two_dw = down(2 * f)
        self.block_three = stage(3, 4 * f, 4 * f)
        self.block_three_dw = down(4 * f)
        self.block_four = stage(3, 8 * f, 8 * f)
        self.block_four_dw = down(8 * f)
        self.block_five = stage(3, 16 * f, 16 * f)
        self.block_five_up = up(16 * f)
        self.block_six = stage(3, 8 * f, 8 * f)
        self.block_six_up = up(8 * f)
        self.block_seven = stage(3, 4 * f, 4 * f)
        self.block_seven_up = up(4 * f)
        self.block_eight = stage(2, 2 * f, 2 * f)
        self.block_eight_up = up(2 * f)
        self.block_nine = stage(1, f, f)
        self.out_conv = nn.Conv3d(f, classes, 1)

    def forward(self, x):
        x1 = self.block_one(x)
        x2 = self.block_two(self.block_one_dw(x1))
        x3 = self.block_three(self.block_two_dw(x2))
        x4 = self.block_four(self.block_three_dw(x3))
        x5 = self.block_five(self.block_four_dw(x4))
        x6 = self.block_six(self.block_five_up(x5) + x4)
        x7 = self.block_seven(self.block_six_up(x6) + x3)
        x8 = self.block_eight(self.block_seven_up(x7) + x2)
        self.features = x8
        x9 = self.block_nine(self.block_eight_up(x8) + x1)
        return self.out_conv(x9)


def convolution_fans(net):
    """Fan of every convolution weight by parameter name: C_in k^3, and C_in for transposed ones (windows do not overlap)."""
    fans = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.ConvTranspose3d):
            fans[name + ".weight"] = module.in_channels
        elif isinstance(module, nn.Conv3d):
            fans[name + ".weight"] = module.in_channels * module.kernel_size[0] ** 3
    return fans


@torch.no_grad()
def fill_weights(net, first=0):
    """Tensor p in enumeration order takes noise number first + p: conv sqrt(6/fan) u, norm weight 1 + 0.1 u, bias 0.05 u."""
    fans = convolution_fans(net)
    for p, (name, tensor) in enumerate(net.named_parameters()):
        u = noise(tensor.numel(), first + p)
        if name in fans:
            value = np.sqrt(6.0 / fans[name]) * u
        elif name.endswith("weight"):
            value = 1.0 + 0.1 * u
        else:
            value = 0.05 * u
        tensor.copy_(torch.from_numpy(value.astype(np.float32)).view_as(tensor))
    return net


@torch.no_grad()
def fill_running_statistics(net, first=2000):
    """Normalisation layer j: running mean 0.05 u(., first + 2j), running variance 1 + 0.3 |u(., first + 2j + 1)|."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm3d)]
    for j, norm in enumerate(norms):
        mean = 0.05 * noise(norm.num_features, first + 2 * j)
        var = 1.0 + 0.3 * np.abs(noise(norm.num_features, first + 2 * j + 1))
        norm.running_mean.copy_(torch.from_numpy(mean.astype(np.float32)))
        norm.running_var.copy_(torch.from_numpy(var.astype(np.float32)))
    return net
