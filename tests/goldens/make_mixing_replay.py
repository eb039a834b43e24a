"""CML and CVBM in PyTorch, two iterations of pre-training and two of self-training: the reference of mixing_replay_test.

    python3 make_mixing_replay.py mixing_replay.json

Everything is float64 and a function of the formulas below: no dropout, fixed boxes, the same batch in every iteration.
A parameter without a gradient gets a gradient of zero, so that weight decay acts on it.
"""

import json
import sys
from copy import deepcopy

import numpy as np
import scipy.ndimage
import torch
import torch.nn as nn
import torch.nn.functional as F

from vnet_reference import noise

FILTERS, LABELED = 2, 4
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 0.01
CORNER, RATIO = (0, 3, 2), 0.6
SHAPES = {3: (32, 32, 16), 2: (1, 32, 48)}  # a 2D image is (1, H, W)


# Networks ------------------------------------------------------------------------------------------------------------


class Stage(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        return self.conv(x)


def block(conv, norm):
    return [conv, norm(conv.out_channels), nn.ReLU()]


def stage(count, width_in, width, norm):
    layers = []
    for k in range(count):
        layers += block(nn.Conv3d(width_in if k == 0 else width, width, 3, padding=1), norm)
    return Stage(*layers)


class VNetEncoder(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.names = ["block_one", "block_two", "block_three", "block_four", "block_five"]
        for level, (name, count) in enumerate(zip(self.names, (1, 2, 3, 3, 3))):
            width = FILTERS << level
            setattr(self, name, stage(count, 1 if level == 0 else width, width, norm))
            if level < 4:
                setattr(self, name + "_dw", Stage(*block(nn.Conv3d(width, 2 * width, 2, stride=2), norm)))

    def forward(self, x):
        levels = []
        for level, name in enumerate(self.names):
            if level > 0:
                x = getattr(self, self.names[level - 1] + "_dw")(x)
            x = getattr(self, name)(x)
            levels.append(x)
        return levels


class VNetDecoder(nn.Module):
    def __init__(self, norm, up, classes, unused_head=False):
        super().__init__()
        self.names = ["block_five", "block_six", "block_seven", "block_eight", "block_nine"]
        for step, count in enumerate((3, 3, 2, 1)):
            width = FILTERS << (3 - step)
            if up == "transposed":
                layers = block(nn.ConvTranspose3d(2 * width, width, 2, stride=2), norm)
            else:
                mode = {"mode": "trilinear", "align_corners": True} if up == "linear" else {"mode": "nearest"}
                layers = [nn.Upsample(scale_factor=2, **mode), *block(nn.Conv3d(2 * width, width, 3, padding=1), norm)]
            setattr(self, self.names[step] + "_up", Stage(*layers))
            setattr(self, self.names[step + 1], stage(count, width, width, norm))
        self.out_conv = nn.Conv3d(FILTERS, classes, 1)
        if unused_head:
            self.out_conv2 = nn.Conv3d(FILTERS, classes, 1)

    def forward(self, levels):
        x = levels[4]
        for step in range(4):
            x = getattr(self, self.names[step] + "_up")(x) + levels[3 - step]
            x = getattr(self, self.names[step + 1])(x)
        return self.out_conv(x)


class DoubleConv(nn.Module):
    def __init__(self, width_in, width):
        super().__init__()
        layers = []
        for k in range(2):
            conv = nn.Conv2d(width_in if k == 0 else width, width, 3, padding=1)
            layers += [conv, nn.BatchNorm2d(width), nn.LeakyReLU(0.01)] + ([nn.Dropout(0.0)] if k == 0 else [])
        self.conv_conv = nn.Sequential(*layers)

    def forward(self, x):
        return self.conv_conv(x)


class Down(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(width // 2, width))

    def forward(self, x):
        return self.maxpool_conv(x)


class UNetEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.in_conv = DoubleConv(1, FILTERS)
        for level in range(1, 5):
            setattr(self, f"down{level}", Down(FILTERS << level))

    def forward(self, x):
        levels = [self.in_conv(x)]
        for level in range(1, 5):
            levels.append(getattr(self, f"down{level}")(levels[-1]))
        return levels


class Up(nn.Module):
    def __init__(self, width, up):
        super().__init__()
        if up == "transposed":
            self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        else:
            self.conv1x1 = nn.Conv2d(2 * width, width, 1)
            mode = {"mode": "bilinear", "align_corners": True} if up == "linear" else {"mode": "nearest"}
            self.up = nn.Upsample(scale_factor=2, **mode)
        self.conv = DoubleConv(2 * width, width)

    def forward(self, x, skip):
        if hasattr(self, "conv1x1"):
            x = self.conv1x1(x)
        return self.conv(torch.cat([skip, self.up(x)], 1))


class UNetDecoder(nn.Module):
    def __init__(self, up, classes):
        super().__init__()
        for step in range(4):
            setattr(self, f"up{step + 1}", Up(FILTERS << (3 - step), up))
        self.out_conv = nn.Conv2d(FILTERS, classes, 3, padding=1)

    def forward(self, levels):
        x = levels[4]
        for step in range(4):
            x = getattr(self, f"up{step + 1}")(x, levels[3 - step])
        return self.out_conv(x)


class CML(nn.Module):
    def __init__(self, axes, classes):
        super().__init__()
        for k in (1, 2):
            setattr(self, f"encoder{k}", VNetEncoder(nn.BatchNorm3d) if axes == 3 else UNetEncoder())
        for k, up in enumerate(("transposed", "linear") if axes == 3 else ("linear", "transposed"), 1):
            decoder = VNetDecoder(nn.BatchNorm3d, up, classes) if axes == 3 else UNetDecoder(up, classes)
            setattr(self, f"decoder{k}", decoder)

    def forward(self, x):
        levels = [self.encoder1(x), self.encoder2(x)]
        return self.decoder1(levels[0]), self.decoder2(levels[1]), levels[0][4], levels[1][4]


class CVBM(nn.Module):
    def __init__(self, axes, classes):
        super().__init__()
        if axes == 3:
            self.encoder = VNetEncoder(nn.InstanceNorm3d)
            self.decoder1 = VNetDecoder(nn.InstanceNorm3d, "transposed", classes, unused_head=True)
            self.decoder1_bg = VNetDecoder(nn.InstanceNorm3d, "nearest", classes, unused_head=True)
        else:
            self.encoder = UNetEncoder()
            self.decoder1, self.decoder1_bg = UNetDecoder("linear", classes), UNetDecoder("linear", classes)
        conv = nn.Conv3d if axes == 3 else nn.Conv2d
        self.final_seg1, self.final_seg1_tanh = conv(2 * classes, classes, 1), conv(2 * classes, classes, 1)

    def forward(self, x):
        levels = self.encoder(x)
        foreground, background = self.decoder1(levels), self.decoder1_bg(levels)
        return foreground, self.final_seg1(torch.cat([foreground, background], 1)), background


def fill(network):
    """Parameter number p: weights of convolutions sqrt(6 / fan) u(i, p), of norms 1 + 0.1 u, biases 0.05 u, as float32;
    fan is the second axis times the kernel's volume. A weight of one number is a PReLU's slope: 0.25 + 0.1 u."""
    with torch.no_grad():
        for p, (name, parameter) in enumerate(network.named_parameters()):
            u = noise(parameter.numel(), p)
            if parameter.dim() > 1:
                value = np.sqrt(6 * parameter.shape[0] / parameter.numel()) * u
            elif name.endswith(".weight"):
                value = (0.25 if parameter.numel() == 1 else 1) + 0.1 * u
            else:
                value = 0.05 * u
            parameter.copy_(torch.from_numpy(value.astype(np.float32).astype(np.float64)).view_as(parameter))
    return network


# Data, labels, losses ----------------------------------------------------------------------------------------------------


def batch(axes, classes):
    """Images (8, 1, ...) and labels (8, ...): sample n, voxel v: wave sin(0.07 v + n), image wave + u(v, 700 + n) / 2."""
    shape = SHAPES[axes]
    v = np.arange(np.prod(shape))
    waves = [np.sin(0.07 * v + n) for n in range(2 * LABELED)]
    images = [(wave + 0.5 * noise(v.size, 700 + n)).astype(np.float32).astype(np.float64) for n, wave in enumerate(waves)]
    labels = [np.minimum(((wave + 1) / 2 * classes).astype(np.int64), classes - 1) for wave in waves]
    size = shape[-axes:]
    return torch.from_numpy(np.stack(images)).view(-1, 1, *size), torch.from_numpy(np.stack(labels)).view(-1, *size)


def box_mask(axes):
    shape = SHAPES[axes]
    mask = torch.ones(shape, dtype=torch.float64)
    side = [max(1, int(size * RATIO)) if size > 1 else 1 for size in shape]
    mask[tuple(slice(c, c + s) for c, s in zip(CORNER, side))] = 0
    return mask.view(shape[-axes:])


def mixed(outer, inner, mask):
    return torch.where(mask == 1, outer, inner)


def largest(labels, classes):
    """Per sample and foreground class the largest component, corners count."""
    kept = torch.zeros_like(labels)
    for n in range(labels.shape[0]):
        for c in range(1, classes):
            parts, count = scipy.ndimage.label((labels[n] == c).numpy(), np.ones([3] * labels[n].dim()))
            if count > 0:
                kept[n][torch.from_numpy(parts == np.bincount(parts.ravel())[1:].argmax() + 1)] = c
    return kept


def decide(logits):
    if logits.shape[1] == 2:
        return (logits.softmax(1)[:, 1] >= 0.5).long()
    return logits.argmax(1)


def one_hot(label, classes):
    return F.one_hot(label, classes).movedim(-1, 1).double()


def sample_dice(p, y, m):
    axes = tuple(range(2, p.dim()))
    return 1 - ((2 * (p * y * m).sum(axes) + 1e-5) / ((p * m).sum(axes) + (y * m).sum(axes) + 1e-5)).mean()


def region_mean(values, m):
    return (values * m).sum() / (m.expand_as(values).sum() + 1e-16)


def pooled_dice(p, t, masks):
    """One mask per class."""
    total = 0
    for c, m in enumerate(masks):
        total += 1 - (2 * (p[:, c] * t[:, c] * m).sum() + 1e-10) / (
            (p[:, c] ** 2 * m).sum() + (t[:, c] ** 2 * m).sum() + 1e-10
        )
    return total / p.shape[1]


def supervision(z, label):
    p = z.softmax(1)
    return 0.5 * (F.cross_entropy(z, label) + sample_dice(p, one_hot(label, z.shape[1]), torch.ones_like(p[:1, :1])))


def conflict(f1, f2):
    a, b = F.normalize(f1, dim=1), F.normalize(f2, dim=1)
    return 1 + F.cosine_similarity(a, b.detach(), dim=1, eps=1e-6).mean()


# Methods -------------------------------------------------------------------------------------------------------------


def optimizer_of(network):
    return torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)


def update(network, optimizer, loss):
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    loss.backward()
    optimizer.step()


def cml(axes, classes, outside_from="other"):
    w_l, w_u, w_d = 1.0, 0.5, 0.2
    network = fill(CML(axes, classes).double())
    optimizer = optimizer_of(network)
    image, label = batch(axes, classes)
    mask, half = box_mask(axes), LABELED // 2
    rows = []
    for t in range(4):
        x, y = mixed(image[:half], image[half:LABELED], mask), mixed(label[:half], label[half:LABELED], mask)
        z1, z2, f1, f2 = network(x)
        labeled = supervision(z1, y) + supervision(z2, y)
        distance = conflict(f1, f2) + conflict(f2, f1)
        loss = w_l * labeled + w_d * distance
        row = {"loss_labeled": labeled}
        if t >= 2:
            with torch.no_grad():
                p1, p2 = (largest(decide(z), classes) for z in network(image[LABELED:])[:2])
            u, v = image[LABELED:].split(half)
            (own1, own1_v), (own2, own2_v) = p1.split(half), p2.split(half)
            y1, y2 = mixed(own2, own1_v, mask), mixed(own1, own2_v, mask)
            if outside_from == "self":
                y1, y2 = mixed(own1, own2_v, mask), mixed(own2, own1_v, mask)
            z1, z2, f1, f2 = network(mixed(u, v, mask))
            unlabeled = supervision(z1, y1) + supervision(z2, y2)
            again = conflict(f1, f2) + conflict(f2, f1)
            loss = loss + w_u * unlabeled + w_d * again
            distance = distance + again
            row["loss_unlabeled"] = unlabeled
        row |= {"loss": loss, "loss_conflict": distance}
        update(network, optimizer, loss)
        rows.append(row)
    return rows, {"student": network}


def cvbm(axes, classes):
    """3D: the code's losses for LA; 2D: those for ACDC."""
    alpha = 0.5
    region_weight, w_max, length = (1, 1.0, 40) if axes == 3 else (2, 0.5, 200)
    student = fill(CVBM(axes, classes).double())
    optimizer = optimizer_of(student)
    teacher = None
    image, label = batch(axes, classes)
    mask, half = box_mask(axes), LABELED // 2
    a, b, u, v = image.split(half)
    y_a, y_b = label[:LABELED].split(half)

    def complement(y):
        return 1 - one_hot(y, classes)

    def foreground(z, outer, inner, weights):
        p, total = z.softmax(1), 0
        for y, m, w in zip((outer, inner), (mask, 1 - mask), weights):
            ce = region_mean(F.cross_entropy(z, y, reduction="none"), m)
            if axes == 3:
                dice = sample_dice(p, one_hot(y, classes), m)
            else:  # the background's Dice ignores the mask
                dice = pooled_dice(p, one_hot(y, classes), [torch.ones_like(m)] + [m] * (classes - 1))
            total = total + w * (ce + dice)
        return 0.5 * total

    def background(z, outer, inner, weights):
        """Targets (N, C, ...)."""
        p, total = z.softmax(1), 0
        for t, m, w in zip((outer, inner), (mask, 1 - mask), weights):
            if axes == 3:
                ce = region_mean(-(t * z.log_softmax(1)).sum(1), m)
                dice = sample_dice(p, t, m)
            else:
                ce = sum(region_mean(-t[:, c] * p.log_softmax(1)[:, c], m) for c in range(classes)) / classes
                dice = pooled_dice(p, t, [m] * classes)
            total = total + w * (ce + dice)
        return 0.5 * total

    def twice(z, t):
        p = z.softmax(1)
        return 0.5 * (-(t * z.log_softmax(1)).sum(1).mean() + sample_dice(p.softmax(1), t, torch.ones_like(p[:1, :1])))

    rows = []
    for t in range(4):
        if t == 2:
            teacher = deepcopy(student)
            if axes == 3:
                optimizer = optimizer_of(student)
        if t < 2:
            z, _, z_bg = student(mixed(a, b, mask))
            if axes == 3:
                y = mixed(y_a, y_b, mask)
                parts = twice(z, one_hot(y, classes)), twice(z_bg, complement(y))
            else:
                parts = foreground(z, y_a, y_b, (1, 1)), background(z_bg, complement(y_a), complement(y_b), (1, 1))
            loss = sum(parts)
            row = {"loss_foreground": parts[0], "loss_background": parts[1]}
        else:
            pseudo = []
            with torch.no_grad():
                for x in (u, v):
                    z, _, z_bg = teacher(x)
                    found = largest(decide(z_bg), classes)
                    target = one_hot(found, classes)
                    if axes == 2:  # channel c holds 0 and c
                        target = target * torch.arange(classes).view(1, -1, 1, 1)
                    pseudo.append((largest(decide(z), classes), target))
            (p_u, q_u), (p_v, q_v) = pseudo
            q_a, q_b = complement(y_a), complement(y_b)
            parts = [0, 0, 0, 0]
            for x, y_o, q_o, y_i, q_i, weights in (
                (mixed(a, u, mask), y_a, q_a, p_u, q_u, (1, alpha)),
                (mixed(v, b, mask), p_v, q_v, y_b, q_b, (alpha, 1)),
            ):
                z, z_mix, z_bg = student(x)
                parts[0] = parts[0] + foreground(z, y_o, y_i, weights)
                parts[1] = parts[1] + background(z_bg, q_o, q_i, weights)
                parts[2] = parts[2] + ((z.softmax(1) - (1 - z_bg).softmax(1)) ** 2).mean()
                parts[3] = parts[3] + ((z_mix.softmax(1) - z.softmax(1)) ** 2).mean()
            weight = w_max * np.exp(-5 * (1 - min((t - 2) // 150, length) / length) ** 2)
            loss = region_weight * (parts[0] + parts[1]) + weight * (parts[2] + parts[3])
            names = ("loss_foreground", "loss_background", "loss_inverse", "loss_direct")
            row = dict(zip(names, parts)) | {"consistency_weight": float(weight)}
        update(student, optimizer, loss)
        if t >= 2:
            with torch.no_grad():
                pairs = list(zip(teacher.parameters(), student.parameters()))
                if axes == 2:
                    pairs += [pair for pair in zip(teacher.buffers(), student.buffers()) if pair[0].is_floating_point()]
                for mean, value in pairs:
                    mean.mul_(0.99).add_(value, alpha=0.01)
        rows.append(row | {"loss": loss})
    return rows, {"student": student, "teacher": teacher}


def golden(run, *arguments):
    rows, networks = run(*arguments)
    print(run.__name__, arguments, [float(row["loss"]) for row in rows])
    numbers = [{name: float(f"{float(value):.14g}") for name, value in row.items()} for row in rows]
    norms = {
        f"{network}/{name}": float(f"{tensor.double().norm().item():.12g}")
        for network, module in networks.items()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }
    return {"iterations": numbers, "norms": norms}


def main():
    torch.set_num_threads(1)
    runs = {
        "cml": golden(cml, 3, 2),
        "cml_self": golden(cml, 3, 2, "self"),
        "cml_2d": golden(cml, 2, 4),
        "cvbm": golden(cvbm, 3, 2),
        "cvbm_2d": golden(cvbm, 2, 4),
    }
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump(runs, out, separators=(",", ":"))
        out.write("\n")


if __name__ == "__main__":
    main()
