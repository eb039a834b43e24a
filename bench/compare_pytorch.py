#!/usr/bin/env python3
"""semivox against PyTorch: training step, evaluation forward, on request prediction of a scan; time and peak memory.

    python3 bench/compare_pytorch.py                       two cores or sixty, on the CPU
    python3 bench/compare_pytorch.py --device cuda         eager and torch.compile, bf16
    python3 bench/compare_pytorch.py --workloads predict   all windows of a scan: minutes

Needs a built semivox, PyTorch (1.13 or newer) and NumPy. Every measurement is a process of its own, so that memory is
clean; in each round every contestant runs once, one after the other (A B A B ...), so that a machine that changes its
speed changes it for all. A time is the median over the rounds of the median of a process's iterations; a ratio is the
median over the rounds of the ratio within a round. Peak memory is the program's own count for semivox (tensors and
scratch) and, for PyTorch, what its process grew by since the import (CPU) or its allocator's peak (GPU).
"""

import argparse
import json
import os
import pathlib
import sys

import common

PEER = str(pathlib.Path(__file__).resolve().parent / "torch_peer.py")
CONTESTANTS = {
    "torch-channels-last-f32": "PyTorch channels-last f32",
    "torch-plain-f32": "PyTorch plain f32",
    "torch-channels-last-bf16": "PyTorch channels-last autocast bf16",
    "torch-compile-f32": "torch.compile channels-last f32",
    "torch-compile-bf16": "torch.compile channels-last autocast bf16",
    "semivox-f32": "semivox f32",
    "semivox-bf16": "semivox bf16",
}
DEFAULTS = {
    "cpu": "torch-channels-last-f32,torch-plain-f32,semivox-f32,semivox-bf16",
    "cuda": "torch-channels-last-bf16,torch-compile-bf16,semivox-f32,semivox-bf16",
}
WORKLOADS = {"train": "training step", "eval": "evaluation forward", "predict": "prediction of a scan"}
TOTAL = {"train": "step", "eval": "forward", "predict": "scan"}  # the time that ratios compare


def extent(word):
    parts = word.split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"found '{word}', expected DxHxW")
    return [int(part) for part in parts]


def names(allowed):
    def parse(word):
        chosen = word.split(",")
        for name in chosen:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"found '{name}', expected some of {','.join(allowed)}")
        return chosen

    return parse


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--semivox", default=str(common.ROOT / "build" / "semivox"), help="program (build/semivox)")
    parser.add_argument("--python", default=sys.executable, help="Python that has PyTorch (this one)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--workloads", type=names(WORKLOADS), default=["train", "eval"], help="train,eval,predict (train,eval)")
    parser.add_argument("--contestants", type=names(CONTESTANTS), help=f"of {', '.join(CONTESTANTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contestant runs (3)")
    parser.add_argument("--iterations", type=int, default=3, help="timed iterations in a process, after a warm-up (3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="on both sides (all)")
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--patch", type=extent, default=[112, 112, 80], help="112x112x80")
    parser.add_argument("--size", type=extent, default=[176, 148, 88], help="predict: voxels of the scan, 176x148x88")
    parser.add_argument("--stride", type=extent, default=[18, 18, 4], help="predict: 18x18x4")
    parser.add_argument("--window-batch", type=int, default=1, help="predict: windows per forward pass (1)")
    parser.add_argument("--out", help="writes OUT.json and OUT.md (bench/results/pytorch-DEVICE-DATE)")
    options = parser.parse_args()
    options.contestants = options.contestants or DEFAULTS[options.device].split(",")
    if min(options.rounds, options.iterations, options.threads, options.batch, options.window_batch) < 1:
        parser.error("counts: expected at least 1")
    if not os.access(options.semivox, os.X_OK):
        parser.error(f"--semivox: {options.semivox} is no program, expected a built semivox (make)")
    return options


def iterations_of(workload, options):
    return 1 if workload == "predict" else options.iterations  # a scan is hundreds of forward passes already


def run_torch(name, workload, options):
    mode, precision = name[len("torch-") :].rsplit("-", 1)
    job = {
        "workload": workload,
        "layout": "plain" if mode == "plain" else "channels-last",
        "compile": mode == "compile",
        "precision": precision,
        "iterations": iterations_of(workload, options),
    }
    for key in ("device", "threads", "filters", "batch", "patch", "size", "stride", "window_batch"):
        job[key] = getattr(options, key)
    output, peak = common.run([options.python, PEER, json.dumps(job)])
    return dict(json.loads(output.splitlines()[-1]), process_peak_bytes=peak)


def run_semivox(name, workload, options):
    def word(numbers):
        return "x".join(map(str, numbers))

    common_options = ["--network", "vnet", "--filters", options.filters, "--patch", word(options.patch)]
    common_options += ["--precision", name.split("-")[1], "--device", options.device, "--threads", options.threads]
    common_options += ["--iterations", iterations_of(workload, options)]
    if workload == "predict":
        windows = ["--size", word(options.size), "--stride", word(options.stride), "--window-batch", options.window_batch]
        report = common.bench(options.semivox, "predict", common_options + windows)
        row = report["rows"][0]
        sample = {"scan": row["seconds"], "windows": row["windows"], "peak_bytes": row["peak_bytes"]}
    else:
        report = common.bench(options.semivox, "step", common_options + ["--batch", options.batch, "--mode", workload])
        sample = {row["part"]: row["seconds"] for row in report["rows"]}
        sample["peak_bytes"] = report["peak_bytes"]["total"]
    environment = report["environment"]
    return dict(
        sample,
        process_peak_bytes=report["process_peak_bytes"],
        version=f"semivox {environment['version']} ({environment['compiler']})",
        device=environment["device"],
    )


def measure(workload, options):
    """Samples of every contestant, one per round; those that cannot run drop out in the first round."""
    contestants, samples = list(options.contestants), {}
    for number in range(options.rounds):
        for name in list(contestants):
            print(f"{WORKLOADS[workload]}, round {number + 1}/{options.rounds}: {CONTESTANTS[name]}", end=" ", flush=True)
            sample = (run_torch if name.startswith("torch") else run_semivox)(name, workload, options)
            if "unavailable" in sample:
                print(f"left out: {sample['unavailable']}")
                contestants.remove(name)
                continue
            print(f"{sample[TOTAL[workload]]:.4f} s", flush=True)
            samples.setdefault(name, []).append(sample)
    return samples


def make_table(workload, samples):
    total = TOTAL[workload]
    first = next(iter(samples.values()))[0]
    parts = [part for part in ("forward", "backward", "update", "step", "scan") if part in first]
    if workload == "predict":
        windows = {name: runs[0]["windows"] for name, runs in samples.items()}
        if len(set(windows.values())) != 1:
            sys.exit(f"prediction: found {windows} windows, expected the same number on both sides")
    baselines = [name for name in samples if name.startswith("torch")]
    header = [WORKLOADS[workload]] + [f"{part} s" for part in parts] + [f"{total} s, least to most", "peak memory MiB"]
    header += [f"× {CONTESTANTS[name]}" for name in baselines]
    rows = []
    for name, runs in samples.items():
        times = [run[total] for run in runs]
        row = [CONTESTANTS[name]] + [f"{common.median([run[part] for run in runs]):.4g}" for part in parts]
        row += [f"{min(times):.4g} to {max(times):.4g}"]
        row += [f"{common.median([run['peak_bytes'] for run in runs]) / 2**20:.0f}"]
        for baseline in baselines:
            row += [f"{common.median([b[total] / t for b, t in zip(samples[baseline], times)]):.2f}"]
        rows.append(row)
    return common.table(header, rows)


def main():
    options = arguments()
    record = {"machine": common.machine(), "settings": {k: v for k, v in vars(options).items() if k != "out"}}
    tables = []
    for workload in options.workloads:
        samples = measure(workload, options)
        if not samples:
            sys.exit("no contestant could run")
        record[workload] = samples
        tables.append(make_table(workload, samples))
    runs = [run for workload in options.workloads for runs in record[workload].values() for run in runs]
    words = sorted({run["version"] for run in runs} | {run["device"] for run in runs if not run["device"].startswith("cpu")})
    record["versions"] = ", ".join(words) + f", {options.threads} threads"
    shape = "x".join(map(str, options.patch))
    title = f"semivox and PyTorch: V-Net, {options.filters} filters, batch {options.batch}, {shape}, {options.device}"
    common.write(options.out, f"pytorch-{options.device}", title, record, tables)


if __name__ == "__main__":
    main()
