"""Five training iterations of the consistency methods in PyTorch, float64: the reference of consistency_replay_test.cpp.

    python3 make_consistency_replay.py consistency_replay.json

One batch of four cases, two of them labelled, in every iteration; no dropout, no noise. Data, weights and the supervised
terms are those of make_replay.py, but that images are cut to multiples of 1/1024, so that mixing them by quarters is exact in
float32. The second network (teacher, or second student) starts from weights of its own.
"""

import json
import math
import sys

import torch
import torch.nn.functional as F

from make_replay import LEARNING_RATE, MOMENTUM, TEACHER_SEED, WEIGHT_DECAY, Cases, IMAGE_NOISE, FILTERS
from make_replay import all_classes_dice, foreground_dice, rounded, step, update_teacher
from vnet_reference import VNet, fill_weights

ITERATIONS = 5
LABELED = 2
WEIGHT = 0.7  # of the unsupervised term, from the start
MIX = 0.25  # share of the second image in ICT


def network(seed):
    return fill_weights(VNet(FILTERS).double(), seed)


def optimizer_of(net):
    return torch.optim.SGD(net.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)


def supervised(logits, label, dice):
    terms = {"loss_ce": F.cross_entropy(logits[:LABELED], label[:LABELED])}
    terms["loss_dice"] = dice(logits[:LABELED], label[:LABELED])
    return 0.5 * sum(terms.values()), terms


def rectified(z, z_teacher):
    log_p, log_q = z.log_softmax(1), z_teacher.log_softmax(1)
    kl = (log_q.exp() * (log_q - log_p)).sum(1)
    pseudo = (F.cross_entropy(z, z_teacher.argmax(1), reduction="none") * torch.exp(-kl)).mean()
    return pseudo + kl.mean(), {"loss_pseudo": pseudo, "kl": kl.mean()}


def thresholded(z, z_teacher):
    confidence, label = z_teacher.softmax(1).max(1)
    mask = confidence >= 0.9
    return (F.cross_entropy(z, label, reduction="none") * mask).mean(), {"confident_voxels": mask.sum()}


def logit_distance(z, z_teacher):
    return ((z - z_teacher) ** 2).mean(), {}


def upc(image, label, consistency):
    student, teacher = network(0), network(TEACHER_SEED)
    optimizer = optimizer_of(student)
    for t in range(ITERATIONS):
        z = student(image)
        with torch.no_grad():
            z_teacher = teacher(image)
        loss, terms = supervised(z, label, foreground_dice)
        term, parts = consistency(z, z_teacher)
        loss = loss + WEIGHT * term
        step(optimizer, loss)
        update_teacher(teacher, student, min(1 - 1 / (t + 1), 0.9999))
        yield {"loss": loss, **terms, "loss_consistency": term, **parts}
    yield [student, teacher]


def em(image, label):
    student = network(0)
    optimizer = optimizer_of(student)
    for _ in range(ITERATIONS):
        z = student(image)
        p = z.softmax(1)
        entropy = (-(p * torch.log(p + 1e-6)).sum(1) / math.log(2)).mean()
        loss, terms = supervised(z, label, all_classes_dice)
        loss = loss + WEIGHT * entropy
        step(optimizer, loss)
        yield {"loss": loss, **terms, "loss_entropy": entropy}
    yield [student]


def cps(image, label):
    networks = [network(0), network(TEACHER_SEED)]
    optimizers = [optimizer_of(net) for net in networks]
    for _ in range(ITERATIONS):
        logits = [net(image) for net in networks]
        row = {"loss": 0}
        for k in range(2):
            loss, terms = supervised(logits[k], label, all_classes_dice)
            cross = F.cross_entropy(logits[k][LABELED:], logits[1 - k][LABELED:].argmax(1))
            row["loss"] = row["loss"] + loss + WEIGHT * cross
            row.update({f"{name}_{k + 1}": value for name, value in terms.items()})
            row[f"loss_cross_{k + 1}"] = cross
        for optimizer in optimizers:
            optimizer.zero_grad()
        row["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
        yield row
    yield networks


def ict(image, label):
    student, teacher = network(0), network(TEACHER_SEED)
    optimizer = optimizer_of(student)
    u0, u1 = image[LABELED:].chunk(2)
    for t in range(ITERATIONS):
        z = student(torch.cat([image[:LABELED], (1 - MIX) * u0 + MIX * u1]))
        with torch.no_grad():
            target = (1 - MIX) * teacher(u0).softmax(1) + MIX * teacher(u1).softmax(1)
        consistency = ((z[LABELED:].softmax(1) - target) ** 2).mean()
        loss, terms = supervised(z, label, all_classes_dice)
        loss = loss + WEIGHT * consistency
        step(optimizer, loss)
        update_teacher(teacher, student, min(1 - 1 / (t + 1), 0.99))
        yield {"loss": loss, **terms, "loss_consistency": consistency}
    yield [student, teacher]


RUNS = {
    "upc rectified": lambda x, y: upc(x, y, rectified),
    "upc thresholded": lambda x, y: upc(x, y, thresholded),
    "upc logits": lambda x, y: upc(x, y, logit_distance),
    "em": em,
    "cps": cps,
    "ict": ict,
}


def main():
    torch.set_num_threads(1)
    image, label = Cases(torch.float64, IMAGE_NOISE).batch(range(4))
    image = (image * 1024).floor() / 1024
    result = {}
    for name, run in RUNS.items():
        *iterations, networks = run(image, label)
        tables = []
        for net in networks:
            flat = torch.cat([p.detach().flatten() for p in net.parameters()])
            buffers = torch.cat([b.flatten() for key, b in net.named_buffers() if "running" in key])
            tables.append([rounded(x.item(), 12) for x in (flat.norm(), flat.sum(), buffers.norm(), buffers.sum())])
        rows = [{key: rounded(float(value), 14) for key, value in row.items()} for row in iterations]
        result[name] = {"iterations": rows, "networks": tables}
        print(name, rows[0], rows[-1], tables)
    with open(sys.argv[1], "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
