"""Five training iterations of every method in PyTorch: the reference of the replay tests.

    python3 make_replay.py replay.json

A run is a deterministic function of weights and data: no dropout, no noise, a fixed mask corner, cases in list order.
The numbers are those of float64. The same runs in float32 (library convolutions, plain convolutions) and in float64 from
images moved by half a float32 unit in the last place tell how far an honest float32 program may be away.
"""

import json
import math
import sys
from copy import deepcopy

import numpy as np
import skimage.measure
import torch
import torch.nn.functional as F

from vnet_reference import VNet, fill_weights, noise

FILTERS = 4
SHAPE = (32, 32, 16)
VOXELS = math.prod(SHAPE)
LABELED = list(range(9))  # the ninth never comes: 9 = 4 * 2 + 1 = 2 * 4 + 1, and incomplete chunks are dropped
UNLABELED = list(range(9, 14))  # five, so that chunks straddle the end of the list
ITERATIONS = 5
# At the usual 0.01 rounding grows hundredfold within five steps (ReLUs that flip in the deepest block, which has few voxels to
# normalise over) and hides small mistakes; a tenth of it keeps losses within 1e-5 of float64. The decay is large enough to be seen.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.001, 0.9, 0.01
TEACHER_SEED = 1000  # first noise number of the teacher's own initial weights
PASSES = 8  # stochastic passes of UA-MT
MASK_CORNER = (3, 4, 2)
MASK_SIDE = tuple(int(size * 2 / 3) for size in SHAPE)
PSEUDO_WEIGHT = 0.5  # weight of the pseudo-labelled region in BCP
# First noise number of the images, chosen so that rounding changes few or no pseudo-labels and mask voxels (see "flips").
IMAGE_NOISE, IMAGE_NOISE_PSEUDO = 9000, 9500
METHODS = {}


def method(run):
    METHODS[run.__name__] = run
    return run


# Data and order ------------------------------------------------------------------------------------------------------


def case_arrays(k, first_noise):
    """Image (float32) and label of case k; the last axis is fastest."""
    wave = np.sin(0.013 * (np.arange(VOXELS) + 37 * k))
    image = (wave + 0.5 * noise(VOXELS, first_noise + k)).astype(np.float32)
    return image.reshape(SHAPE), (wave > 0.3).astype(np.int64).reshape(SHAPE)


class Cases:
    """The cases in one precision; `jitter` moves every image by a relative 2^-25 of random sign."""

    def __init__(self, dtype, first_noise, jitter=False):
        self.images, self.labels = [], []
        for k in range(len(LABELED) + len(UNLABELED)):
            image, label = case_arrays(k, first_noise)
            image = torch.from_numpy(image).to(dtype)
            if jitter:
                image *= 1 + 2.0**-25 * torch.from_numpy(np.sign(noise(VOXELS, 5000 + k))).view(SHAPE)
            self.images.append(image)
            self.labels.append(torch.from_numpy(label))

    def batch(self, indices):
        """Images (N, 1, D, H, W) and labels (N, D, H, W)."""
        return torch.stack([self.images[k] for k in indices])[:, None], torch.stack([self.labels[k] for k in indices])


def fixed_order(labeled_count, unlabeled_count):
    """Two-stream batches in list order. An epoch is one pass over the labelled cases; both streams restart with it."""
    while True:
        for n in range(len(LABELED) // labeled_count):
            labeled = LABELED[n * labeled_count : (n + 1) * labeled_count]
            first = n * unlabeled_count
            yield labeled + [UNLABELED[(first + j) % len(UNLABELED)] for j in range(unlabeled_count)]


def student_and_optimizer(dtype):
    student = fill_weights(VNet(FILTERS).to(dtype))
    optimizer = torch.optim.SGD(student.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    return student, optimizer


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def update_teacher(teacher, student, decay):
    """Exponential moving average over parameters only; running statistics are left alone."""
    for mean, value in zip(teacher.parameters(), student.parameters()):
        mean.mul_(decay).add_(value, alpha=1 - decay)


# Losses --------------------------------------------------------------------------------------------------------------


def pooled_dice(p, g):
    """1 - Dice of one class over the whole batch, squares in the denominator."""
    return 1 - (2 * (p * g).sum() + 1e-5) / ((p * p).sum() + (g * g).sum() + 1e-5)


def foreground_dice(logits, label):
    return pooled_dice(logits.softmax(1)[:, 1], (label == 1).to(logits))


def all_classes_dice(logits, label):
    p = logits.softmax(1)
    return sum(pooled_dice(p[:, c], (label == c).to(logits)) for c in range(p.shape[1])) / p.shape[1]


def masked_cross_entropy(logits, label, mask):
    return (F.cross_entropy(logits, label, reduction="none") * mask).sum() / (mask.sum() + 1e-16)


def masked_dice(logits, label, mask):
    """BCP: mean over samples and classes, no squares; mask has no channel axis."""
    p = logits.softmax(1) * mask[:, None]
    y = F.one_hot(label, p.shape[1]).movedim(-1, 1).to(p) * mask[:, None]
    axes = (2, 3, 4)
    return 1 - ((2 * (p * y).sum(axes) + 1e-5) / (p.sum(axes) + y.sum(axes) + 1e-5)).mean()


def ramp(t, length):
    return math.exp(-5 * (1 - min(max(t, 0), length) / length) ** 2)


# Methods: each yields one dictionary of numbers per iteration and at last its networks -----------------------------------


@method
def supervised(cases, dtype):
    student, optimizer = student_and_optimizer(dtype)
    order = fixed_order(4, 0)
    for _ in range(ITERATIONS):
        image, label = cases.batch(next(order))
        logits = student(image)
        ce, dice = F.cross_entropy(logits, label), foreground_dice(logits, label)
        loss = 0.5 * (ce + dice)
        step(optimizer, loss)
        yield {"loss": loss, "loss_ce": ce, "loss_dice": dice}
    yield {"student": student}


def mean_teacher_loop(cases, dtype, own_teacher, dice_loss, consistency):
    """Mean Teacher and UA-MT differ in the Dice term and in `consistency(t, teacher, student logits, images)`."""
    student, optimizer = student_and_optimizer(dtype)
    teacher = fill_weights(VNet(FILTERS).to(dtype), TEACHER_SEED if own_teacher else 0)
    order = fixed_order(2, 2)
    for t in range(ITERATIONS):
        image, label = cases.batch(next(order))
        logits = student(image)
        ce, dice = F.cross_entropy(logits[:2], label[:2]), dice_loss(logits[:2], label[:2])
        terms = consistency(t, teacher, logits[2:], image[2:])
        weight = 0.1 * ramp(t // 150, 40)
        loss = 0.5 * (ce + dice) + weight * terms["loss_consistency"]
        step(optimizer, loss)
        update_teacher(teacher, student, min(1 - 1 / (t + 1), 0.99))
        yield {"loss": loss, "loss_ce": ce, "loss_dice": dice, "consistency_weight": weight, **terms}
    yield {"student": student, "teacher": teacher}


def plain_consistency(t, teacher, logits, image):
    with torch.no_grad():
        target = teacher(image).softmax(1)
    return {"loss_consistency": ((logits.softmax(1) - target) ** 2).mean()}


def certain_consistency(t, teacher, logits, image):
    with torch.no_grad():
        target = teacher(image).softmax(1)
        twice = torch.cat([image, image])
        passes = [teacher(twice).softmax(1).view(2, *target.shape) for _ in range(PASSES // 2)]
        mean = torch.cat(passes).mean(0)
        entropy = -(mean * (mean + 1e-6).log()).sum(1, keepdim=True)
        threshold = (0.75 + 0.25 * ramp(t, 6000)) * math.log(2)
        mask = (entropy < threshold).to(logits)
    distance = (logits.softmax(1) - target) ** 2
    return {
        "loss_consistency": (mask * distance).sum() / (2 * mask.sum() + 1e-16),
        "uncertainty_threshold": threshold,
        "mask_voxels": int(mask.sum()),
        "_decisions": mask,
        "_margin": (entropy - threshold).abs().min(),
    }


@method
def mean_teacher(cases, dtype):
    return mean_teacher_loop(cases, dtype, True, all_classes_dice, plain_consistency)


@method
def mean_teacher_same_init(cases, dtype):
    return mean_teacher_loop(cases, dtype, False, all_classes_dice, plain_consistency)


@method
def ua_mt(cases, dtype):
    return mean_teacher_loop(cases, dtype, True, foreground_dice, certain_consistency)


@method
def ua_mt_same_init(cases, dtype):
    return mean_teacher_loop(cases, dtype, False, foreground_dice, certain_consistency)


def box_mask(dtype):
    """(D, H, W): 0 inside the box, 1 outside."""
    mask = torch.ones(SHAPE, dtype=dtype)
    mask[tuple(slice(c, c + s) for c, s in zip(MASK_CORNER, MASK_SIDE))] = 0
    return mask


def mix(outer, inner, mask):
    return torch.where(mask == 1, outer, inner)


@method
def bcp_pretrain(cases, dtype):
    student, optimizer = student_and_optimizer(dtype)
    mask = box_mask(dtype)
    order = fixed_order(4, 0)
    for _ in range(ITERATIONS):
        image, label = cases.batch(next(order))
        logits = student(mix(image[:2], image[2:], mask))
        target = mix(label[:2], label[2:], mask)
        ce, dice = F.cross_entropy(logits, target), masked_dice(logits, target, torch.ones_like(logits[:, 0]))
        loss = 0.5 * (ce + dice)
        step(optimizer, loss)
        yield {"loss": loss, "loss_ce": ce, "loss_dice": dice}
    yield {"student": student}


def largest_components(foreground):
    """Per sample the largest 26-connected component (ties: first in raster order), and the two largest sizes of each."""
    kept, sizes = [], []
    for sample in foreground.numpy():
        parts = skimage.measure.label(sample)
        counts = np.bincount(parts.ravel(), minlength=3)[1:]
        kept.append(parts == counts.argmax() + 1 if counts[0] else sample)
        sizes.append([int(n) for n in sorted(counts)[:-3:-1]])
    return torch.from_numpy(np.stack(kept).astype(np.int64)), sizes


def mixed_loss(logits, outer, outer_weight, inner, inner_weight, mask):
    mask = mask.expand_as(logits[:, 0])
    dice_outer, dice_inner = masked_dice(logits, outer, mask), masked_dice(logits, inner, 1 - mask)
    ce_outer, ce_inner = masked_cross_entropy(logits, outer, mask), masked_cross_entropy(logits, inner, 1 - mask)
    dice = outer_weight * dice_outer + inner_weight * dice_inner
    ce = outer_weight * ce_outer + inner_weight * ce_inner
    parts = {"ce_outer": ce_outer, "ce_inner": ce_inner, "dice_outer": dice_outer, "dice_inner": dice_inner}
    return {"loss_outer_inner": 0.5 * (dice + ce), "loss_ce": ce, "loss_dice": dice, **parts}


@method
def bcp_self_train(cases, dtype):
    student, optimizer = student_and_optimizer(dtype)
    teacher = deepcopy(student)
    mask = box_mask(dtype)
    order = fixed_order(4, 4)
    for _ in range(ITERATIONS):
        image, label = cases.batch(next(order))
        a, b, u, v = image.split(2)
        label_a, label_b = label[:4].split(2)
        with torch.no_grad():
            p_u, p_v = teacher(u).softmax(1)[:, 1], teacher(v).softmax(1)[:, 1]
        (pseudo_u, sizes_u), (pseudo_v, sizes_v) = largest_components(p_u >= 0.5), largest_components(p_v >= 0.5)
        first = mixed_loss(student(mix(a, u, mask)), label_a, 1, pseudo_u, PSEUDO_WEIGHT, mask)
        second = mixed_loss(student(mix(v, b, mask)), pseudo_v, PSEUDO_WEIGHT, label_b, 1, mask)
        loss = first["loss_outer_inner"] + second["loss_outer_inner"]
        step(optimizer, loss)
        update_teacher(teacher, student, 0.99)
        yield {
            "loss": loss,
            **{f"{name}_1": value for name, value in first.items()},
            **{f"{name}_2": value for name, value in second.items()},
            "pseudo_voxels_1": int(pseudo_u.sum()),
            "pseudo_voxels_2": int(pseudo_v.sum()),
            "_decisions": torch.cat([pseudo_u, pseudo_v]),
            "_margin": (torch.cat([p_u, p_v]) - 0.5).abs().min(),
            "_sizes": sizes_u + sizes_v,
        }
    yield {"student": student, "teacher": teacher}


# Comparing and writing -----------------------------------------------------------------------------------------------


def execute(run, cases, dtype):
    """Iterations (numbers; keys with an underscore are diagnostics) and {network: {tensor: [norm, sum, first]}}."""
    *iterations, networks = run(cases, dtype)
    for row in iterations:
        row.update({key: value.item() for key, value in row.items() if torch.is_tensor(value) and value.numel() == 1})
    summary = {}
    for name, network in networks.items():
        summary[name] = {}
        for key, tensor in network.state_dict().items():
            w = tensor.double().flatten()
            summary[name][key] = [w.norm().item(), w.sum().item(), w[0].item(), w.numel()]
    return iterations, summary


def relative(value, reference):
    return abs(value - reference) / max(abs(reference), 1e-12)


def summary_deviation(value, reference):
    """Largest of the deviations of norm, sum and first element, each in units of its natural size."""
    norm, total, first, count = reference
    if norm == 0:
        return abs(value[0])
    return max(
        abs(value[0] - norm) / norm,
        abs(value[1] - total) / (norm * math.sqrt(count)),
        abs(value[2] - first) * math.sqrt(count) / norm,
    )


def variants(first_noise):
    """The runs that tell what rounding does: name, data, precision, whether oneDNN's convolutions are used."""
    yield "float32, oneDNN convolutions", Cases(torch.float32, first_noise), torch.float32, True
    yield "float32, plain convolutions", Cases(torch.float32, first_noise), torch.float32, False
    yield "float64, images moved by 2^-25", Cases(torch.float64, first_noise, jitter=True), torch.float64, True


def golden(name, run):
    first_noise = IMAGE_NOISE_PSEUDO if run is bcp_self_train else IMAGE_NOISE
    iterations, networks = execute(run, Cases(torch.float64, first_noise), torch.float64)
    keys = [key for key in iterations[0] if not key.startswith("_")]
    deviation = [dict.fromkeys(keys, 0.0) for _ in iterations]
    weights = {network: dict.fromkeys(table, 0.0) for network, table in networks.items()}
    flips = [0] * len(iterations)
    for _, cases, dtype, onednn in variants(first_noise):
        with torch.backends.mkldnn.flags(enabled=onednn):
            other, other_networks = execute(run, cases, dtype)
        for t, (row, reference) in enumerate(zip(other, iterations)):
            for key in keys:
                deviation[t][key] = max(deviation[t][key], relative(row[key], reference[key]))
            if "_decisions" in row:
                flips[t] = max(flips[t], int((row["_decisions"] != reference["_decisions"]).sum()))
        for network, table in networks.items():
            for key, reference in table.items():
                worst = summary_deviation(other_networks[network][key], reference)
                weights[network][key] = max(weights[network][key], worst)

    rows = []
    for t, row in enumerate(iterations):
        entry = {key: rounded(row[key], 14) for key in keys}
        entry["deviation"] = {key: rounded(value, 2) for key, value in deviation[t].items()}
        if "_decisions" in row:
            entry["decisions"] = {"margin": rounded(row["_margin"], 3), "flips": flips[t]}
        if "_sizes" in row:
            entry["decisions"]["two_largest_components"] = row["_sizes"]
        rows.append(entry)
        print(f"{name} {t}: loss {row['loss']:.10f}, deviation {max(deviation[t].values()):.1e}", entry.get("decisions", ""))
    tables = {}
    for network, table in networks.items():
        tables[network] = [[rounded(x, 12) for x in s[:3]] + [rounded(weights[network][key], 2)] for key, s in table.items()]
        print(f"{name} {network}: largest deviation of a tensor {max(weights[network].values()):.1e}")
    return {"image_noise": first_noise, "iterations": rows, **tables}


def rounded(value, digits):
    return value if isinstance(value, int) else float(f"{value:.{digits}g}")


SETTINGS = {
    "network": {"name": "vnet", "filters": FILTERS, "channels": 1, "classes": 2, "norm": "batch", "dropout": 0},
    "patch": SHAPE,
    "weights": "u(i, p): the integer hash of tests/goldens/vnet_reference.py (noise). Parameter tensor p of the student "
    "(weights and biases in the order of tensor_names): conv weight sqrt(6/fan) u(i,p), norm weight 1 + 0.1 u, bias 0.05 u, "
    "rounded to float32; fan = C_in k^3, for transposed convolutions C_in. Running mean 0, running variance 1.",
    "teacher": f"mean_teacher, ua_mt: noise numbers p + {TEACHER_SEED}; *_same_init and bcp_self_train: copy of the student",
    "images": "case k, flat index i (last axis fastest): float32(sin(0.013 (i + 37 k)) + 0.5 u(i, image_noise + k)), image_noise of the method",
    "labels": "case k: 1 where sin(0.013 (i + 37 k)) > 0.3, else 0",
    "labeled_cases": LABELED,
    "unlabeled_cases": UNLABELED,
    "order": "labelled cases in list order, incomplete chunk dropped; unlabelled cases in list order, endless; both restart "
    "at every epoch (one pass over the labelled cases)",
    "batch": {
        "supervised": "4 labelled",
        "mean_teacher, ua_mt": "2 labelled + 2 unlabelled",
        "bcp_pretrain": "4 labelled: A = first two, B = last two",
        "bcp_self_train": "4 labelled (A, B) + 4 unlabelled (U, V)",
    },
    "optimizer": {"learning_rate": LEARNING_RATE, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY},
    "ema_decay": "mean_teacher, ua_mt: min(1 - 1/(t+1), 0.99); bcp_self_train: 0.99",
    "consistency_weight": "0.1 ramp(floor(t/150), 40), t from 0",
    "passes": PASSES,
    "noise": 0,
    "mask_corner": MASK_CORNER,
    "mask_side": MASK_SIDE,
    "pseudo_weight": PSEUDO_WEIGHT,
    "pseudo_label": "p1 >= 0.5, then the largest 26-connected component of each sample",
    "bcp_names": "_1: A outside, U inside the box; _2: V outside, B inside. loss_outer_inner = (loss_ce + loss_dice) / 2; "
    "loss_ce and loss_dice are weighted sums of the outer and inner parts, which are stored without their weights",
    "tensors": "student, teacher: per tensor of tensor_names [L2 norm, sum, first element, deviation] after the last "
    "iteration; deviation = largest of |d norm|/norm, |d sum|/(norm sqrt(n)), |d first| sqrt(n)/norm",
    "deviation": "largest relative difference to the float64 run over: " + "; ".join(name for name, *_ in variants(IMAGE_NOISE)),
    "decisions": "margin: distance of the nearest voxel to the threshold in the float64 run; flips: most voxels decided "
    "differently in one of the other runs",
}


def main():
    torch.set_num_threads(1)  # the same sums everywhere
    cases = LABELED + UNLABELED
    margin = min(np.abs(np.sin(0.013 * (np.arange(VOXELS) + 37 * k)) - 0.3).min() for k in cases)
    checks = []
    for first_noise in (IMAGE_NOISE, IMAGE_NOISE_PSEUDO):
        arrays = [case_arrays(k, first_noise) for k in cases]
        sums = [float(image.astype(np.float64).sum()) for image, _ in arrays]
        checks.append({"image_noise": first_noise, "image_sums": sums, "label_sums": [int(label.sum()) for _, label in arrays]})
    result = {
        "settings": SETTINGS,
        "label_margin": float(margin),
        "case_checks": checks,
        "tensor_names": list(VNet(FILTERS).state_dict()),
        "methods": {name: golden(name, run) for name, run in METHODS.items()},
    }
    with open(sys.argv[1], "w") as file:
        json.dump(result, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
