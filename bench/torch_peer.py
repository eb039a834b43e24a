"""The PyTorch side of compare_pytorch.py: one measurement in a process of its own.

    python3 torch_peer.py '{"workload": "train", "layout": "channels-last", ...}'

Prints a JSON object: seconds of the parts, peak memory in bytes, or {"unavailable": why}.
"""

import contextlib
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"))

import torch
import torch.nn.functional as F
from torch import nn
from vnet_reference import VNet

from common import median


def status_bytes(field):
    """VmRSS (now) or VmHWM (the most so far) of this process."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))


def make_network(job):
    """The literature's V-Net: ReLUs in place, Dropout3d behind the lowest and the last stage."""
    torch.manual_seed(1)
    net = VNet(job["filters"])
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    for stage in (net.block_five, net.block_nine):
        stage.conv.add_module("dropout", nn.Dropout3d(0.5))
    return net.to(job["device"], memory_format=memory_format(job))


def memory_format(job):
    return torch.contiguous_format if job["layout"] == "plain" else torch.channels_last_3d


def images(job, shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return x.to(job["device"], memory_format=memory_format(job))


def precision(job):
    if job["precision"] == "f32":
        return contextlib.nullcontext()
    return torch.autocast(job["device"], dtype=torch.bfloat16)


class Clock:
    """Seconds between laps, with the device's work done."""

    def __init__(self, job):
        self.cuda = job["device"] == "cuda"
        self.lap()

    def lap(self):
        if self.cuda:
            torch.cuda.synchronize()
        now = time.perf_counter()
        seconds, self.last = now - getattr(self, "last", now), now
        return seconds


def loss_of(logits, labels):
    """½ (cross-entropy + Dice of the foreground), as `semivox bench step` computes."""
    logits = logits.float()
    p, y = logits.softmax(1)[:, 1], labels.float()
    dice = 1 - (2 * (p * y).sum() + 1e-5) / ((p * p).sum() + (y * y).sum() + 1e-5)
    return 0.5 * (F.cross_entropy(logits, labels) + dice)


def train(job, net, forward):
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    x = images(job, (job["batch"], 1, *job["patch"]))
    labels = (x[:, 0] > 0).long()

    def iteration():
        clock = Clock(job)
        with precision(job):
            loss = loss_of(forward(x), labels)
        seconds = {"forward": clock.lap()}
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        seconds["backward"] = clock.lap()
        optimizer.step()
        seconds["update"] = clock.lap()
        return dict(seconds, step=sum(seconds.values()))

    return iteration, iteration


def evaluate(job, net, forward):
    net.eval()
    x = images(job, (job["batch"], 1, *job["patch"]))

    def iteration():
        clock = Clock(job)
        with torch.no_grad(), precision(job):
            forward(x)
        return {"forward": clock.lap()}

    return iteration, iteration


def window_starts(size, patch, stride):
    last = size - patch
    return [min(i * stride, last) for i in range(-(-last // stride) + 1)]


def predict(job, net, forward):
    """Softmax of all windows added up and divided by how many cover a voxel, everything on the device."""
    net.eval()
    size = [max(s, p) for s, p in zip(job["size"], job["patch"])]
    image = images(job, (1, 1, *size))
    places = [[]]
    for axis in range(3):
        starts = window_starts(size[axis], job["patch"][axis], job["stride"][axis])
        places = [place + [slice(s, s + job["patch"][axis])] for place in places for s in starts]

    def run(places):
        clock = Clock(job)
        scores, counts = (torch.zeros((n, *size), device=job["device"]) for n in (2, 1))
        with torch.no_grad(), precision(job):
            for i in range(0, len(places), job["window_batch"]):
                chosen = places[i : i + job["window_batch"]]
                windows = torch.cat([image[(..., *place)] for place in chosen])
                p = forward(windows.contiguous(memory_format=memory_format(job))).float().softmax(1)
                for place, one in zip(chosen, p):
                    scores[(slice(None), *place)] += one
                    counts[(slice(None), *place)] += 1
        scores /= counts
        return {"scan": clock.lap(), "windows": len(places)}

    return lambda: run(places[: job["window_batch"]]), lambda: run(places)


def main():
    job = json.loads(sys.argv[1])
    cuda = job["device"] == "cuda"
    if cuda and not torch.cuda.is_available():
        return {"unavailable": "this PyTorch finds no GPU"}
    if job["compile"] and not hasattr(torch, "compile"):
        return {"unavailable": "torch.compile needs PyTorch 2"}
    torch.set_num_threads(job["threads"])
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # f32 is f32 on both sides
    imported = status_bytes("VmRSS")
    net = make_network(job)
    forward = torch.compile(net) if job["compile"] else net
    warm_up, iteration = {"train": train, "eval": evaluate, "predict": predict}[job["workload"]](job, net, forward)
    for _ in range(3 if job["compile"] else 1):  # compiled code is chosen in the first calls
        warm_up()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    runs = [iteration() for _ in range(job["iterations"])]
    peak = torch.cuda.max_memory_allocated() if cuda else status_bytes("VmHWM") - imported
    report = {part: median([run[part] for run in runs]) for part in runs[0]}
    device = torch.cuda.get_device_name() if cuda else "cpu"
    return dict(report, peak_bytes=peak, version=f"PyTorch {torch.__version__}", device=device)


if __name__ == "__main__":
    print(json.dumps(main()))
