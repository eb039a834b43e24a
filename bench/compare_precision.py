#!/usr/bin/env python3
"""The loss curve of a bf16 run beside that of the same run in f32.

    python3 bench/compare_precision.py
    python3 bench/compare_precision.py --data LA --train-options "--spacing 1.25"

All runs start from the same weights and see the same patches and dropout masks; only the activations are stored in other
precision. Single iterations differ, and the differences grow as in any training; what must agree is where the loss is after
so many iterations: the means over windows of 20. How far apart two trainings get whatever the precision, a third run shows:
f32 again, with a learning rate larger by a millionth. Needs a built semivox; without --data it trains on a synthetic set.
"""

import argparse
import json
import os
import shlex
import tempfile

import common


def losses(semivox, name, precision, options, folder):
    out = os.path.join(folder, name)
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
    parser.add_argument("--lr", type=float, default=0.01, help="learning rate (0.01)")
    parser.add_argument("--train-options", default="--labeled 8 --patch 64x64x32 --batch 2", help="further options of all runs")
    parser.add_argument("--out", help="base name of the JSON and Markdown files (default: bench/results/precision-<date>)")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if data is None:
            data = os.path.join(folder, "data")
            common.run([options.semivox, "data", "synth", "--out", data, "--cases", "16", "--size", "80x80x56", "--seed", "7"])
        train = ["--method", options.method, "--data", data, "--iterations", str(options.iterations)]
        train += shlex.split(options.train_options)
        curves = {
            name: losses(options.semivox, name, precision, [*train, "--lr", repr(lr)], folder)
            for name, precision, lr in (
                ("f32", "f32", options.lr),
                ("bf16", "bf16", options.lr),
                ("disturbed", "f32", options.lr * (1 + 1e-6)),
            )
        }

    names = ("bf16", "disturbed")
    means = {name: windows(curve, options.window) + [sum(curve) / len(curve)] for name, curve in curves.items()}
    difference = {name: [abs(m - f) / f for f, m in zip(means["f32"], means[name])] for name in names}
    spans = [f"{i * options.window + 1} to {(i + 1) * options.window}" for i in range(len(means["f32"]) - 1)] + ["all"]
    rows = [
        [span, f"{means['f32'][i]:.4f}", *(text for name in names for text in (f"{means[name][i]:.4f}", f"{100 * difference[name][i]:.2f} %"))]
        for i, span in enumerate(spans)
    ]
    record = {
        "machine": common.machine(),
        "versions": f"method {options.method}, {options.train_options}",
        "curves": curves,
        "largest_window_difference": {name: max(difference[name][:-1]) for name in names},
        "mean_difference": {name: difference[name][-1] for name in names},
    }
    common.write(
        options.out, "precision", "Loss in bf16 beside f32",
        record, [common.table(["iterations", "f32", "bf16", "difference", "f32, learning rate + 1e-6", "difference"], rows)],
    )


if __name__ == "__main__":
    main()
