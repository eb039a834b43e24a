"""Five training iterations of URPC, MC-Net, MC-Net+ and RCPS in PyTorch, float64: the reference of decoder_replay_test.

    python3 make_decoder_replay.py decoder_replay.json

Networks with several outputs, and no teacher. Two labelled and two unlabelled samples, the same in every iteration; no
dropout, no perturbations, and RCPS's views at the ends of their ranges. Data, weights and the optimizer are those of
make_mixing_replay.py, but that images are cut to multiples of 1/1024, so that scaling them by quarters is exact in float32.
"""

import json
import math
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from make_mixing_replay import FILTERS, UNetDecoder, UNetEncoder, VNetDecoder, VNetEncoder
from make_mixing_replay import batch, fill, golden, one_hot, optimizer_of, update

LABELED, SAMPLES, ITERATIONS = 2, 4, 5
SHARPENING, TEMPERATURE = 0.5, 0.1  # RCPS
VIEWS = ((0.75, -0.25), (1.25, 0.25))  # contrast, brightness


def trilinear(x, size):
    return F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=False)


def ramp(step, length):
    return math.exp(-5 * (1 - min(step, length) / length) ** 2)


def data(axes, classes):
    image, label = batch(axes, classes)
    return (image[:SAMPLES] * 1024).floor() / 1024, label[:LABELED]


# URPC ----------------------------------------------------------------------------------------------------------------


class TwoConvolutions(nn.Module):
    """The bias before a norm without parameters changes nothing, but decays."""

    def __init__(self, width_in, width):
        super().__init__()
        for name, c_in in (("conv1", width_in), ("conv2", width)):
            layers = nn.Conv3d(c_in, width, 3, padding=1), nn.InstanceNorm3d(width), nn.ReLU()
            setattr(self, name, nn.Sequential(*layers))

    def forward(self, x):
        return self.conv2(self.conv1(x))


class UpConcat(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = TwoConvolutions(3 * width, width)

    def forward(self, skip, below):
        return self.conv(torch.cat([skip, trilinear(below, skip.shape[2:])], 1))


class CoarseHead(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.dsv = nn.Sequential(nn.Conv3d(width, classes, 1))

    def forward(self, x):
        return self.dsv(x)


class UNet3D(nn.Module):
    """The logits of four resolutions, finest first."""

    def __init__(self, classes):
        super().__init__()
        for level, name in enumerate(("conv1", "conv2", "conv3", "conv4", "center")):
            width = FILTERS << level
            setattr(self, name, TwoConvolutions(1 if level == 0 else width // 2, width))
        for k in (4, 3, 2, 1):
            setattr(self, f"up_concat{k}", UpConcat(FILTERS << (k - 1)))
        for k in (4, 3, 2):
            setattr(self, f"dsv{k}", CoarseHead(FILTERS << (k - 1), classes))
        self.dsv1 = nn.Conv3d(FILTERS, classes, 1)

    def forward(self, x):
        skips = [self.conv1(x)]
        for conv in (self.conv2, self.conv3, self.conv4):
            skips.append(conv(F.max_pool3d(skips[-1], 2)))
        h = self.center(F.max_pool3d(skips[-1], 2))
        heads = []
        for k in (4, 3, 2, 1):
            h = getattr(self, f"up_concat{k}")(skips[k - 1], h)
            heads.insert(0, trilinear(getattr(self, f"dsv{k}")(h), x.shape[2:]))
        return heads


class PyramidDecoder(UNetDecoder):
    def __init__(self, classes):
        super().__init__("linear", classes)
        for k in (4, 3, 2, 1):  # number 4, on the deepest level, is never used
            setattr(self, f"out_conv_dp{k}", nn.Conv2d(FILTERS << k, classes, 3, padding=1))

    def forward(self, levels):
        h, size = levels[4], levels[0].shape[2:]
        heads = []
        for k in (3, 2, 1):
            h = getattr(self, f"up{4 - k}")(h, levels[k])
            heads.insert(0, F.interpolate(getattr(self, f"out_conv_dp{k}")(h), size=tuple(size), mode="nearest"))
        return [self.out_conv(self.up4(h, levels[0])), *heads]


class PyramidUNet2D(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.encoder, self.decoder = UNetEncoder(), PyramidDecoder(classes)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def squared_dice(p, y):
    """Per class over all samples, mean of 1 - Dice."""
    over = [0, *range(2, p.dim())]
    return (1 - (2 * (p * y).sum(over) + 1e-5) / ((p * p).sum(over) + (y * y).sum(over) + 1e-5)).mean()


def urpc(axes, classes):
    network = fill((UNet3D if axes == 3 else PyramidUNet2D)(classes).double())
    optimizer = optimizer_of(network)
    image, label = data(axes, classes)
    rows = []
    for t in range(ITERATIONS):
        heads = network(image)
        ce = sum(F.cross_entropy(z[:LABELED], label) for z in heads) / 4
        dice = sum(squared_dice(z[:LABELED].softmax(1), one_hot(label, classes)) for z in heads) / 4
        p = torch.stack([z[LABELED:].softmax(1) for z in heads])
        m = p.mean(0)
        terms = []
        for p_s in p:
            v = (m * (m.log() - p_s.log())).sum(1, keepdim=True)
            w = torch.exp(-v)
            terms.append(((m - p_s) ** 2 * w).mean() / (w.mean() + 1e-8) + v.mean())
        weight, consistency = 0.7 * ramp(t, 3), sum(terms) / 4
        loss = (ce + dice) / 2 + weight * consistency
        update(network, optimizer, loss)
        row = {"loss": loss, "loss_ce": ce, "loss_dice": dice, "loss_consistency": consistency}
        rows.append(row | {"consistency_weight": weight} | {f"consistency_{s + 1}": r for s, r in enumerate(terms)})
    return rows, {"student": network}


# MC-Net --------------------------------------------------------------------------------------------------------------


class MCNet(nn.Module):
    def __init__(self, axes, classes, decoders):
        super().__init__()
        self.encoder = VNetEncoder(nn.BatchNorm3d) if axes == 3 else UNetEncoder()
        kinds = ("transposed", "linear", "nearest") if axes == 3 else ("linear", "transposed", "nearest")
        for k in range(decoders):
            decoder = VNetDecoder(nn.BatchNorm3d, kinds[k], classes) if axes == 3 else UNetDecoder(kinds[k], classes)
            setattr(self, f"decoder{k + 1}", decoder)
        self.decoders = decoders

    def forward(self, x):
        levels = self.encoder(x)
        return [getattr(self, f"decoder{k + 1}")(levels) for k in range(self.decoders)]


def mc_net(axes, classes, decoders, detached=False):
    network = fill(MCNet(axes, classes, decoders).double())
    optimizer = optimizer_of(network)
    image, label = data(axes, classes)
    y = one_hot(label, classes)
    dice_weight = 0.5 if axes == 3 else 1
    rows = []
    for t in range(ITERATIONS):
        p = [z.softmax(1) for z in network(image)]
        dice = 0
        for q in (q[:LABELED] for q in p):
            if axes == 3:
                dice = dice + 1 - (2 * (q * y)[:, 1].sum() + 1e-8) / (q[:, 1].sum() + y[:, 1].sum() + 1e-8)
            else:
                parts = [1 - (q * y)[:, c].sum() / ((q**2)[:, c].sum() + y[:, c].sum() + 1e-10) for c in range(classes)]
                dice = dice + sum(parts) / classes
        sharp = [q**10 / (q**10 + (1 - q) ** 10) for q in p]
        if detached:
            sharp = [s.detach() for s in sharp]
        pairs = [(i, j) for i in range(decoders) for j in range(decoders) if i != j]
        consistency = sum(((p[i] - sharp[j]) ** 2).mean() for i, j in pairs)
        weight = 0.7 * ramp((t + 1) // 2, 2)  # counted from 1
        loss = dice_weight * dice + weight * consistency
        update(network, optimizer, loss)
        rows.append({"loss": loss, "loss_dice": dice, "loss_consistency": consistency, "consistency_weight": weight})
    return rows, {"student": network}


# RCPS ----------------------------------------------------------------------------------------------------------------


class ConvNorm(nn.Module):
    def __init__(self, width_in, width, kernel, stride, slope=False):
        super().__init__()
        if slope:
            self.act = nn.PReLU()
        self.conv = nn.Conv3d(width_in, width, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm3d(width)

    def forward(self, x):
        x = self.norm(self.conv(x))
        return self.act(x) if hasattr(self, "act") else x


class Residual(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.act = nn.PReLU()
        self.conv1 = ConvNorm(width_in, width, 3, stride, slope=True)
        self.conv2 = ConvNorm(width, width, 3, 1)
        self.id = ConvNorm(width_in, width, 1, stride)

    def forward(self, x):
        return self.act(self.conv2(self.conv1(x)) + self.id(x))


class ProjectorUNet(nn.Module):
    """Logits at four resolutions, finest first, and embeddings at a quarter of it."""

    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Module()
        for level in range(5):
            width = FILTERS << level
            block = Residual(1 if level == 0 else width // 2, width, 1 if level == 0 else 2)
            setattr(self.backbone, f"conv{level}_0", block)
        for level in (3, 2, 1, 0):
            width = FILTERS << level
            setattr(self, f"conv{level}_{4 - level}", Residual(3 * width, width, 1))
        for level in (3, 2, 1, 0):
            setattr(self, f"convds{level}", nn.Conv3d(FILTERS << level, classes, 1))
        width = 4 * FILTERS
        self.projector = nn.Sequential(nn.Conv3d(width, width, 1), nn.PReLU(), nn.Conv3d(width, 64, 1))

    def forward(self, x):
        skips, h = [], x
        for level in range(5):
            h = getattr(self.backbone, f"conv{level}_0")(h)
            skips.append(h)
        scales = []
        for level in (3, 2, 1, 0):
            joined = torch.cat([skips[level], trilinear(h, skips[level].shape[2:])], 1)
            h = getattr(self, f"conv{level}_{4 - level}")(joined)
            scales.insert(0, trilinear(getattr(self, f"convds{level}")(h), x.shape[2:]))
            if level == 2:
                embedding = self.projector(h)
        return scales, embedding


def rcps_supervised(z, label, weights):
    """MONAI's Dice, per sample and class without squares, and the class-weighted cross-entropy."""
    p, y = z.softmax(1), one_hot(label, len(weights))
    over = (2, 3, 4)
    dice = (1 - (2 * (p * y).sum(over) + 1e-5) / (p.sum(over) + y.sum(over) + 1e-5)).mean()
    ce = F.cross_entropy(z, label, torch.tensor(weights, dtype=torch.float64))
    return dice + len(weights) / sum(weights) * ce


def rectified(q, t):
    """mean exp(-K) l and mean K"""
    log_q = q.log_softmax(1)
    target = (t / SHARPENING).softmax(1)
    k = (t.softmax(1) * (t.log_softmax(1) - log_q)).sum(1)
    return (torch.exp(-k) * -(target * log_q).sum(1)).mean(), k.mean()


def rows_of(features):
    return F.normalize(features.movedim(1, -1).flatten(0, -2), dim=1)


def contrast(a, b, negatives, anchor_map, negative_map, count, filled):
    a, b, negatives = rows_of(a), rows_of(b), rows_of(negatives)
    anchor_class = anchor_map.softmax(1).argmax(1).flatten()
    confidence, negative_class = (x.flatten() for x in negative_map.softmax(1).max(1))
    same = torch.exp((a * b).sum(1) / TEMPERATURE)
    total = 0
    for c in anchor_class.unique():
        key = (confidence * (negative_class != c)).detach().numpy()
        true = int((key > 0).sum())
        order = np.argsort(-key, kind="stable")[: count if filled else min(count, true)]
        keys, mine = negatives[order.copy()], anchor_class == c
        for q in (a, b):
            others = torch.exp(q[mine] @ keys.T / TEMPERATURE).sum(1)
            total = total - torch.log(same[mine] / (same[mine] + others + 1e-8)).sum()
    return total / len(a)


def rcps(classes, class_weights, count, filled):
    network = fill(ProjectorUNet(classes).double())
    optimizer = optimizer_of(network)
    image, label = data(3, classes)
    views = [image]
    for scale, share in VIEWS:
        scaled = scale * image
        views.append((scaled + share * scaled.mean((1, 2, 3, 4), True)).float().double())
    groups = slice(0, LABELED), slice(LABELED, SAMPLES)
    rows = []
    for t in range(ITERATIONS):
        scales, embedding = network(torch.cat(views))
        scales = [z.split(SAMPLES) for z in scales]
        target = scales[0][0].detach()
        segmentation = sum(rcps_supervised(z[0][:LABELED], label, [1, *class_weights]) for z in scales)
        ce, kl, cosine = 0, 0, 0
        for _, q1, q2 in scales:
            for g in groups:
                for q in (q1, q2):
                    parts = rectified(q[g], target[g])
                    ce, kl = ce + parts[0], kl + parts[1]
                cosine = cosine + (1 - F.cosine_similarity(q1[g], q2[g], dim=1, eps=1e-8)).mean()
        e0, e1, e2 = embedding.split(SAMPLES)
        small = trilinear(target, embedding.shape[2:])
        contrasts = [
            contrast(e1[g], e2[g], e0[other], small[g], small[other], count, filled)
            for g, other in (groups, groups[::-1])
        ]
        weight = ramp(t, 3)
        loss = segmentation + weight * (0.5 * (ce + kl + cosine) + 0.25 * sum(contrasts))
        update(network, optimizer, loss)
        row = {"loss": loss, "loss_segmentation": segmentation, "loss_rectified": ce, "loss_kl": kl}
        names = {"loss_contrast_labeled": contrasts[0], "loss_contrast_unlabeled": contrasts[1]}
        rows.append(row | {"loss_cosine": cosine, "ramp": weight} | names)
    return rows, {"student": network}


def main():
    torch.set_num_threads(1)
    runs = {
        "urpc": golden(urpc, 3, 2),
        "urpc_2d": golden(urpc, 2, 4),
        "mc_net": golden(mc_net, 3, 2, 2),
        "mc_net_2d": golden(mc_net, 2, 4, 2, True),
        "mc_net_plus": golden(mc_net, 3, 2, 3),
        "mc_net_plus_2d": golden(mc_net, 2, 4, 3),
        "rcps": golden(rcps, 2, [10], 100, True),
        "rcps_true_negatives": golden(rcps, 3, [10, 5], 400, False),
    }
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump(runs, out, separators=(",", ":"))
        out.write("\n")


if __name__ == "__main__":
    main()
