"""Five training iterations of the consistency methods in PyTorch, float64: the reference of consistency_replay_test.cpp.

    python3 make_consistency_replay.py consistency_replay.json

One batch of four cases, two of them labelled, in every iteration; no dropout, no noise. Data, weights and the supervised
terms are those of make_replay.py, but that images are cut to multiples of 1/1024, so that mixing them by quarters is exact in
float32. The second network (teacher, or second student) starts from weights of its own.
"""

import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

from make_replay import LEARNING_RATE, MOMENTUM, TEACHER_SEED, WEIGHT_DECAY, Cases, IMAGE_NOISE, FILTERS
from make_replay import all_classes_dice, foreground_dice, rounded, step, update_teacher
from resvnet_reference import Pair
from vnet_reference import VNet, fill_weights

ITERATIONS = 5
LABELED = 2
WEIGHT = 0.7  # of the unsupervised term, from the start
MIX = 0.25  # share of the second image in ICT
PASSES = {"mu": 4, "perr": 3}  # stochastic passes of AC-MT's strategies


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


def entropy(p):
    return -(p * torch.log(p + 1e-6)).sum(1)


def nearest_prototypes(net, image):
    """Class whose prototype is nearest: without dropout every class is certain, and labels are the hard predictions."""
    p = net(image).softmax(1)
    for _ in range(PASSES["perr"]):
        net(image)
    features = F.interpolate(net.features, image.shape[2:], mode="trilinear", align_corners=False)
    distances = []
    for c in range(p.shape[1]):
        weight = (p[:, c] * (p.argmax(1) == c)).unsqueeze(1)
        prototype = (weight * features).sum((2, 3, 4), True) / (weight.sum((2, 3, 4), True) + 1e-5)
        distances.append(((features - prototype) ** 2).sum(1))
    return torch.stack(distances).argmin(0)


def label_issues(labels, p):
    """Confident learning for two classes, with NumPy's partition; both rules."""
    s, p = labels.flatten().numpy(), p.permute(0, 2, 3, 4, 1).reshape(-1, 2).numpy()
    thresholds = np.array([p[s == k, k].astype(np.float64).mean() for k in range(2)])
    confident = p >= thresholds - 1e-6
    guess = np.where(confident.all(1), p.argmax(1), confident.argmax(1))
    mask = np.zeros(len(s), bool)
    for k in range(2):
        counted = (s == k) & confident.any(1)
        own, other = max((counted & (guess == k)).sum(), 1), (counted & (guess != k)).sum()
        count = (s == k).sum()
        wrong = int(np.round(other / (own + other) * count))
        assert 0 < wrong < count and wrong + np.round(own / (own + other) * count) == count
        cut = np.partition(p[s == k, k], wrong)[wrong]
        margin = p[:, 1 - k] - p[:, k]
        reached = -np.partition(-margin[s == k], wrong - 1)[wrong - 1]
        mask |= (s == k) & (p[:, k] < cut) & (margin >= reached)
    return torch.from_numpy(mask & (p.argmax(1) != s)).view(labels.shape)


def ac_mt(image, label, strategy):
    student, teacher = network(0), network(TEACHER_SEED)
    optimizer = optimizer_of(student)
    unlabeled = image[LABELED:]
    for t in range(ITERATIONS):
        z = student(image)
        p = z[LABELED:].softmax(1)
        ramp = math.exp(-5 * (1 - t / ITERATIONS) ** 2)
        with torch.no_grad():
            target = teacher(unlabeled).softmax(1)
            if strategy == "ent":
                mask = entropy(p) >= (0.75 + 0.2 * ramp) * math.log(2)
            if strategy == "mu":
                passes = [student(torch.cat([unlabeled] * 2)).softmax(1) for _ in range(PASSES["mu"] // 2)]
                mean = torch.cat([q.unsqueeze(0) for q in passes]).view(-1, *p.shape).mean(0)
                mask = entropy(mean) >= (0.75 + 0.15 * ramp) * math.log(2)
            if strategy == "perr":
                mask = p.argmax(1) != nearest_prototypes(teacher, unlabeled)
            if strategy == "serr":
                mask = label_issues(p.argmax(1), teacher(unlabeled).float().softmax(1))
        width = 1 if strategy == "mu" else 2
        terms = {"mask_voxels": mask.sum()}
        terms["loss_consistency"] = (mask * ((p - target) ** 2).sum(1)).sum() / (width * mask.sum() + 1e-16)
        unsupervised = terms["loss_consistency"]
        if strategy == "perr":  # (2, D, H, W) against (2, 2, D, H, W), as the official code broadcasts them
            outside = (~mask).unsqueeze(1).repeat(1, 2, 1, 1, 1)
            terms["loss_entropy"] = (outside * entropy(p) / math.log(2)).mean()
            unsupervised = unsupervised + terms["loss_entropy"]
        loss, parts = supervised(z, label, all_classes_dice)
        loss = loss + WEIGHT * unsupervised
        step(optimizer, loss)
        update_teacher(teacher, student, min(1 - 1 / (t + 1), 0.99))
        yield {"loss": loss, **parts, **terms}
    yield [student, teacher]


def mcf(image, label):
    pair = fill_weights(Pair(FILTERS).double())
    optimizers = [optimizer_of(pair.vnet), optimizer_of(pair.resvnet)]
    names = ("vnet", "resvnet")
    for _ in range(ITERATIONS):
        logits = [pair.vnet(image), pair.resvnet(image)]
        hard = [z[:LABELED].argmax(1) for z in logits]
        differ = hard[0] != hard[1]
        row, losses, dice = {"disagreement_voxels": differ.sum()}, [], []
        for z, name in zip(logits, names):
            p = z[:LABELED].softmax(1)[:, 1]
            ce = F.cross_entropy(z[:LABELED], label[:LABELED])
            dice.append(foreground_dice(z[:LABELED], label[:LABELED]))
            mse = (differ * (p - label[:LABELED]) ** 2).sum() / (differ.sum() + 1e-16)
            losses.append(ce + dice[-1] + 0.5 * mse)
            row.update({f"ce_{name}": ce, f"dice_{name}": dice[-1], f"mse_{name}": mse})
        winner = 0 if dice[0] < dice[1] else 1
        sharp = logits[winner][LABELED:].detach().softmax(1) ** 10
        target = sharp / sharp.sum(1, True)
        consistency = ((logits[1 - winner][LABELED:].softmax(1) - target) ** 2).mean()
        losses[1 - winner] = losses[1 - winner] + WEIGHT * consistency
        for loss, optimizer in zip(losses, optimizers):
            step(optimizer, loss)
        row.update({"loss": sum(losses), "loss_vnet": losses[0], "loss_resvnet": losses[1]})
        yield {**row, "loss_consistency": consistency, "teacher": winner}
    yield [pair]


RUNS = {
    "upc rectified": lambda x, y: upc(x, y, rectified),
    "upc thresholded": lambda x, y: upc(x, y, thresholded),
    "upc logits": lambda x, y: upc(x, y, logit_distance),
    "em": em,
    "cps": cps,
    "ict": ict,
    **{f"ac_mt {name}": lambda x, y, name=name: ac_mt(x, y, name) for name in ("ent", "mu", "perr", "serr")},
    "mcf": mcf,
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
