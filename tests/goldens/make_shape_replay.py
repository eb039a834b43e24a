"""Four training iterations of DTC and SASSNet in PyTorch, in float64: the reference of their replay tests.

    python3 make_shape_replay.py shape_replay.json

A run is a deterministic function of weights and data: no dropout, the same four samples in every iteration.
"""

import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import nn

from vnet_reference import VNet, fill_weights, noise

FILTERS = 4
DISCRIMINATOR_FILTERS, DISCRIMINATOR_SEED = 2, 700
SHAPE = (32, 16, 16)
SAMPLES, LABELED, ITERATIONS = 4, 2, 4
# At the usual 0.01 the steep sigmoid makes 1e-10 of rounding within four steps.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.001, 0.9, 1e-4
BETA, STEEPNESS = 0.3, 1500
# The ramp is passed within the run: one step per iteration.
CONSISTENCY, ADVERSARIAL, RAMPUP_LENGTH = 1.0, 0.5, 3


class TwoHeads(VNet):
    """out_conv with tanh is the signed distance map, out_conv2 the foreground's logit."""

    def __init__(self):
        super().__init__(FILTERS, classes=1)
        self.out_conv2 = nn.Conv3d(FILTERS, 1, 1)
        self.feature = None
        self.block_nine.register_forward_hook(lambda module, inputs, output: setattr(self, "feature", output))

    def forward(self, x):
        before = super().forward(x)
        return torch.tanh(before), self.out_conv2(self.feature)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        f = DISCRIMINATOR_FILTERS
        self.conv0, self.conv1 = nn.Conv3d(1, f, 4, 2, 1), nn.Conv3d(1, f, 4, 2, 1)
        self.conv2, self.conv3, self.conv4 = (nn.Conv3d(f << k, f << (k + 1), 4, 2, 1) for k in range(3))
        self.classifier = nn.Linear(8 * f, 2)

    def forward(self, distance, image):
        x = F.leaky_relu(self.conv0(distance) + self.conv1(image), 0.2)
        for conv in (self.conv2, self.conv3, self.conv4):
            x = F.leaky_relu(conv(x), 0.2)
        return self.classifier(x.mean((2, 3, 4)))


@torch.no_grad()
def fill_discriminator(net):
    """Tensor p: weights sqrt(6/fan) u, biases 0.05 u, numbers from DISCRIMINATOR_SEED on, rounded to float32."""
    for p, tensor in enumerate(net.parameters()):
        scale = math.sqrt(6 / tensor[0].numel()) if tensor.dim() > 1 else 0.05
        value = scale * noise(tensor.numel(), DISCRIMINATOR_SEED + p)
        tensor.copy_(torch.from_numpy(value.astype(np.float32)).view_as(tensor))
    return net


def signed_distance(label):
    """Of one sample: outside positive, inside negative, each over its largest value; 0 on the inner boundary."""
    inside, outside = distance_transform_edt(label), distance_transform_edt(~label)
    result = outside / outside.max() - inside / inside.max()
    result[label & ~binary_erosion(np.pad(label, 1, mode="edge"))[1:-1, 1:-1, 1:-1]] = 0
    return result.astype(np.float32)


def data():
    """Images, labels and signed distance maps: a ball in every sample, brighter than the noise around it."""
    x, y, z = np.indices(SHAPE)
    images, labels, maps = [], [], []
    for n in range(SAMPLES):
        ball = (x - 12 - 2 * n) ** 2 + (y - 7) ** 2 + (z - 9 + n) ** 2 <= 25 + 3 * n
        image = ball + 0.5 * noise(x.size, 900 + n).reshape(SHAPE)
        images.append(image.astype(np.float32))
        labels.append(ball)
        maps.append(signed_distance(ball))
    stack = lambda arrays: torch.from_numpy(np.stack(arrays)[:, None].astype(np.float64))
    return stack(images), stack(labels[:LABELED]), stack(maps[:LABELED])


def supervised(t, b, y, s):
    t, b = t[:LABELED], b[:LABELED]
    p = torch.sigmoid(b)
    dice = 1 - (2 * (p * y).sum() + 1e-5) / ((p * p).sum() + (y * y).sum() + 1e-5)
    return dice, ((t - s) ** 2).mean(), F.binary_cross_entropy_with_logits(b, y)


def ramp(iteration):
    return math.exp(-5 * (1 - min(iteration, RAMPUP_LENGTH) / RAMPUP_LENGTH) ** 2)


def make_student():
    student = fill_weights(TwoHeads().double())
    return student, torch.optim.SGD(student.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)


def update(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def dtc(x, y, s):
    student, optimizer = make_student()
    for i in range(ITERATIONS):
        t, b = student(x)
        dice, distance, ce = supervised(t, b, y, s)
        consistency = ((torch.sigmoid(-STEEPNESS * t) - torch.sigmoid(b)) ** 2).mean()
        weight = CONSISTENCY * ramp(i)
        loss = dice + BETA * distance + weight * consistency
        update(optimizer, loss)
        yield {
            "loss": loss,
            "loss_dice": dice,
            "loss_distance": distance,
            "loss_consistency": consistency,
            "loss_ce": ce,
            "consistency_weight": weight,
        }
    yield {"student": student}


def sassnet(x, y, s):
    student, optimizer = make_student()
    judge = fill_discriminator(Discriminator().double())
    judge_optimizer = torch.optim.Adam(judge.parameters(), 1e-4, betas=(0.9, 0.99))
    target = torch.tensor([1, 1, 0, 0])
    for i in range(ITERATIONS):
        student.train()
        t, b = student(x)
        dice, distance, ce = supervised(t, b, y, s)
        adversarial = F.cross_entropy(judge(t[LABELED:], x[LABELED:]), target[:LABELED])
        weight = ADVERSARIAL * ramp(i)
        loss = dice + BETA * distance + weight * adversarial
        update(optimizer, loss)
        student.eval()
        with torch.no_grad():
            t, _ = student(x)
        judged = judge(t, x)
        judge_loss = F.cross_entropy(judged, target)
        update(judge_optimizer, judge_loss)
        yield {
            "loss": loss,
            "loss_dice": dice,
            "loss_distance": distance,
            "loss_adversarial": adversarial,
            "loss_ce": ce,
            "adversarial_weight": weight,
            "loss_discriminator": judge_loss,
            "discriminator_accuracy": (judged.argmax(1) == target).double().mean(),
        }
    yield {"student": student, "discriminator": judge}


def main():
    torch.set_num_threads(1)
    result = {}
    for method in (dtc, sassnet):
        *iterations, networks = method(*data())
        rows = [{key: float(f"{float(value):.14g}") for key, value in row.items()} for row in iterations]
        norms = {
            name: {key: float(f"{value.double().norm().item():.12g}") for key, value in network.state_dict().items()}
            for name, network in networks.items()
        }
        result[method.__name__] = {"iterations": rows, "norms": norms}
        for row in rows:
            print(method.__name__, row)
    with open(sys.argv[1], "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
