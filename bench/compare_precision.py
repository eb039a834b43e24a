#!/usr/bin/env python3
"""The loss curve of a bf16 run beside that of the same run in f32.

    python3 bench/compare_precision.py
    python3 bench/compare_precision.py --data LA --train-options "--spacing 1.25"

Both runs start from the same weights and see the same patches and dropout masks; only the activations are stored in other
precision. Single iterations differ, and the differences grow as in any training; what must agree is where the loss is after
so many iterations: the means over windows of 20. Needs a built semivox; without --data it trains on a synthetic set.
"""

import argparse
import json
import os
import shlex
import tempfile

import common


def losses(semivox, precision, options, folder):
    out = os.path.join(folder, precision)
    common.run([semivox, "train", "--precision", precision, "--out", out, "--validate-every", "0", *options])
    with open(os.path.join(out, "metrics.jsonl")) as file:
        return [json.loads(line)["loss"] for line in file]


def windows(values, width):
    return [sum(values[i : i + width]) / width for i in range(0, len(values) - width + 1, width)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semivox", default=str(common.ROOT / "build" / "semivox"), help="the program (build/semivox)")
    parser.add_argument("--data", help="a data set folder (default: a synthetic one)")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--window", type=int, default=20, help="iterations per mean (20)")
    parser.add_argument("--method", default="supervised")
    parser.add_argument("--train-options", default="--labeled 8 --patch 64x64x32 --batch 2", help="further options of both runs")
    parser.add_argument("--out", help="base name of the JSON and Markdown files (default: bench/results/precision-<date>)")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if data is None:
            data = os.path.join(folder, "data")
            common.run([options.semivox, "data", "synth", "--out", data, "--cases", "16", "--size", "80x80x56", "--seed", "7"])
        train = ["--method", options.method, "--data", data, "--iterations", str(options.iterations)]
        train += shlex.split(options.train_options)
        curves = {p: losses(options.semivox, p, train, folder) for p in ("f32", "bf16")}

    means = {p: windows(curve, options.window) for p, curve in curves.items()}
    difference = [abs(b - f) / f for f, b in zip(means["f32"], means["bf16"])]
    rows = [
        [f"{i * options.window + 1} to {(i + 1) * options.window}", f"{f:.4f}", f"{b:.4f}", f"{100 * d:.2f} %"]
        for i, (f, b, d) in enumerate(zip(means["f32"], means["bf16"], difference))
    ]
    total = {p: sum(curve) / len(curve) for p, curve in curves.items()}
    overall = abs(total["bf16"] - total["f32"]) / total["f32"]
    rows.append(["all", f"{total['f32']:.4f}", f"{total['bf16']:.4f}", f"{100 * overall:.2f} %"])
    record = {
        "machine": common.machine(),
        "versions": f"method {options.method}, {options.train_options}",
        "curves": curves,
        "largest_window_difference": max(difference),
        "mean_difference": overall,
    }
    common.write(
        options.out, "precision", "Loss in bf16 beside f32",
        record, [common.table(["iterations", "f32", "bf16", "difference"], rows)],
    )


if __name__ == "__main__":
    main()
