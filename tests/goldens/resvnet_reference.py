"""MCF's 3D-ResVNet in PyTorch, and the pair that it trains: a ResNet-34 encoder before the V-Net's decoder."""

import torch.nn.functional as F
from torch import nn

from vnet_reference import VNet, stage, up


class BasicBlock(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv3d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(c_out)
        self.conv2 = nn.Conv3d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(c_out)
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv3d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm3d(c_out))
        self.halves = stride != 1

    def forward(self, x):
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(h + (self.downsample(x) if self.halves else x))


class ResVNet(nn.Module):
    def __init__(self, filters, classes=2, channels=1):
        super().__init__()
        f = filters
        self.conv1 = nn.Conv3d(channels, f, 7, 1, 3, bias=False)
        self.bn1 = nn.BatchNorm3d(f)
        for k, count in enumerate((3, 4, 6, 3)):
            blocks = [BasicBlock(f << k, f << k + 1, 2)] + [BasicBlock(f << k + 1, f << k + 1, 1) for _ in range(count - 1)]
            setattr(self, f"layer{k + 1}", nn.Sequential(*blocks))
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
        x1 = F.relu(self.bn1(self.conv1(x)))
        x2 = self.layer1(x1)
        x3 = self.layer2(x2)
        x4 = self.layer3(x3)
        x6 = self.block_six(self.block_five_up(self.layer4(x4)) + x4)
        x7 = self.block_seven(self.block_six_up(x6) + x3)
        x8 = self.block_eight(self.block_seven_up(x7) + x2)
        return self.out_conv(self.block_nine(self.block_eight_up(x8) + x1))


class Pair(nn.Module):
    def __init__(self, filters):
        super().__init__()
        self.vnet = VNet(filters)
        self.resvnet = ResVNet(filters)
