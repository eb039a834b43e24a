"""Three training iterations of DyCON in PyTorch, in float64: the reference of tests/dycon_test.cpp.

    python3 make_dycon.py dycon.json

Noise and dropout are off and the batch is the same in every iteration, so a run is a function of the formulas below.
Unlabelled images are contrasted by the teacher's decisions.
"""

import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FILTERS = 2
SHAPE = (32, 32, 32)
LABELED, UNLABELED = 2, 2
ITERATIONS = 3
TOTAL_ITERATIONS, EPOCH = 12, 2  # of the schedules
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
TEACHER_SCALE = 0.9  # the teacher's first weights, relative to the student's


def noise(count, tag):
    """u(i, tag) in [-0.5, 0.5), as tests/network_check.hpp has it."""
    mask = np.uint64(0xFFFFFFFF)
    h = (np.arange(count, dtype=np.uint64) + np.uint64(7919 * tag)) & mask
    h = h * np.uint64(2654435761) & mask
    h ^= h >> np.uint64(16)
    h = h * np.uint64(2246822519) & mask
    h ^= h >> np.uint64(13)
    return torch.from_numpy(h.astype(np.float64) / 4294967296.0 - 0.5)


def double_conv(a, b):
    layers = []
    for inputs in (a, b):
        layers += [nn.Conv3d(inputs, b, 3, padding=1), nn.InstanceNorm3d(b), nn.ReLU()]
    return nn.Sequential(*layers)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [FILTERS << k for k in range(5)]
        self.down = nn.ModuleList(double_conv(a, b) for a, b in zip([1] + widths, widths))
        self.up = nn.ModuleList(double_conv(3 * w, w) for w in reversed(widths[:4]))
        self.final = nn.Conv3d(FILTERS, 2, 1)
        self.out_conv2 = nn.Conv3d(FILTERS, 2, 1)
        deepest = widths[4]
        self.projection = nn.Sequential(nn.Conv3d(deepest, 2 * deepest, 1), nn.BatchNorm3d(2 * deepest), nn.ReLU(),
                                        nn.Conv3d(2 * deepest, deepest, 1), nn.BatchNorm3d(deepest))

    def forward(self, x):
        levels = []
        for k, block in enumerate(self.down):
            x = block(F.max_pool3d(x, 2) if k else x)
            levels.append(x)
        for block, skip in zip(self.up, reversed(levels[:4])):
            x = block(torch.cat([skip, F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)], 1))
        grid = F.interpolate(levels[4], scale_factor=2, mode="trilinear", align_corners=True)
        return self.out_conv2(x), self.projection(grid)


def fill_weights(net, scale):
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv3d)]
    for t, m in enumerate(convolutions):
        fan = m.weight[0].numel()
        m.weight.data = scale * math.sqrt(24 / fan) * noise(m.weight.numel(), t).reshape(m.weight.shape)
        m.bias.data = scale * 0.1 * noise(m.bias.numel(), t + 500)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm3d):
            m.weight.data = torch.full_like(m.weight, scale)


def batch():
    n = LABELED + UNLABELED
    images = (2 * noise(n * math.prod(SHAPE), 1000)).float().reshape(n, 1, *SHAPE)
    d, h, w = torch.meshgrid(*(torch.arange(s) for s in SHAPE), indexing="ij")
    labels = torch.stack([((d - 14 - k) ** 2 + (h - 17) ** 2 + (w - 15) ** 2 < 90 + 40 * k).long() for k in range(LABELED)])
    images[:LABELED, 0] += labels  # in float32, as the test
    return images.double(), labels


def entropy(p):
    return -(p * torch.log(p + 1e-6)).sum(1)


def uncl(p, q, beta):
    h, h_teacher = entropy(p), entropy(q)
    weighted = ((p - q) ** 2).sum(1) / (torch.exp(beta * h) + torch.exp(beta * h_teacher))
    return weighted.mean() + beta * (h + h_teacher).mean()


def ramp(t, length):
    return math.exp(-5 * (1 - min(t, length) / length) ** 2)


def fecl(features, teacher, classes, epoch):
    """features, teacher (B, P, F) of length one, classes (B, P)."""
    tau, gamma, tiny, patches = 0.6, 2, 1e-18, features.shape[1]
    same = classes[:, :, None] == classes[:, None, :]
    off_diagonal = ~torch.eye(patches, dtype=torch.bool)
    s = features @ features.transpose(1, 2) / tau * off_diagonal
    e = torch.exp(s - s.max(dim=1, keepdim=True)[0].detach())
    negatives = (e * ~same).sum(2, keepdim=True)
    q = e / (e + negatives + tiny)
    terms = (1 - q) ** gamma * -torch.log(q + tiny) * (same & off_diagonal)
    student = (terms.sum(2) / (same.sum(2) - 1 + tiny)).mean()
    x = features @ teacher.transpose(1, 2)
    hard = ~same & (x > 0.3 + 0.2 * ramp(epoch, 1500))
    cross = -torch.log(1 - x[hard] + tiny).sum() / hard.sum() if hard.any() else torch.zeros(())
    return student + cross, cross, int(hard.sum())


def patch_classes(labels):
    return (F.avg_pool3d(labels.double().unsqueeze(1), 8) > 0.5).flatten(1)


def embeddings(features):
    return F.normalize(features.flatten(2).transpose(1, 2), dim=-1)


def summary(name, tensor):
    values = tensor.detach().flatten()
    return {"name": name, "norm": values.norm().item(), "sum": values.sum().item(), "first": values[0].item()}


def main(path):
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    student, teacher = Net(), Net()
    fill_weights(student, 1)
    fill_weights(teacher, TEACHER_SCALE)
    optimizer = torch.optim.SGD(student.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    images, labels = batch()
    steps, epochs = [], TOTAL_ITERATIONS // EPOCH + 1
    for t in range(ITERATIONS):
        epoch = t // EPOCH
        z, features = student(images)
        with torch.no_grad():
            z_teacher, features_teacher = teacher(images)
        p, q = z.softmax(1), z_teacher.softmax(1)
        ce = F.cross_entropy(z[:LABELED], labels)
        foreground, g = p[:LABELED, 1], labels.double()
        dice = 1 - (2 * (foreground * g).sum() + 1e-5) / ((foreground**2).sum() + g.sum() + 1e-5)
        consistency = ((p[LABELED:].softmax(1) - q[LABELED:].softmax(1)) ** 2).mean()
        weight = 0.1 * ramp(t // 150, 200)
        beta = 5 * (0.5 / 5) ** (epoch / epochs)
        uncertainty = uncl(p, q, beta)
        classes = patch_classes(torch.cat([labels, z_teacher[LABELED:].argmax(1)]))
        contrast, cross, pairs = fecl(embeddings(features), embeddings(features_teacher), classes, epoch)
        loss = ce + dice + weight * consistency + 0.5 * (contrast + uncertainty)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        alpha = min(1 - 1 / (t + 1), 0.99)
        with torch.no_grad():
            for own, other in zip(teacher.parameters(), student.parameters()):
                own.mul_(alpha).add_(other, alpha=1 - alpha)
        steps.append({"loss": loss.item(), "loss_ce": ce.item(), "loss_dice": dice.item(),
                      "loss_consistency": consistency.item(), "loss_uncl": uncertainty.item(),
                      "loss_fecl": contrast.item(), "loss_fecl_teacher": cross.item(), "hard_negatives": pairs,
                      "consistency_weight": weight, "beta": beta, "gradient_norm": norm.item()})
        print(steps[-1], "foreground patches", classes.sum(1).tolist())
    tensors = {name: [summary(key, value) for key, value in net.named_parameters()]
               for name, net in (("student", student), ("teacher", teacher))}
    with open(path, "w") as out:
        json.dump({"steps": steps, "tensors": tensors}, out, indent=1)


if __name__ == "__main__":
    main(sys.argv[1])
