#!/usr/bin/env python3
"""Dice, Jaccard, 95HD and ASD of one case: semivox against SciPy by the route that MedPy takes.

    python3 bench/compare_metrics.py
    python3 bench/compare_metrics.py --reference LA/labelsTr/CASE.nii.gz

MedPy's route: the border of an object is the object without its erosion by the 6-neighbour cross; the distances are the
Euclidean distance transform of the complement of one border, read at the other; 95HD needs both directions, and ASD takes
its direction anew: three transforms and six erosions. Both sides see the same two label maps (the prediction is the
reference moved by two voxels along every axis), time the scores without reading files, run in processes of their own,
A B A B, and must agree. Needs a built semivox, NumPy and SciPy.
"""

import argparse
import gzip
import json
import os
import pathlib
import sys
import tempfile
import time

import common


def read_labels(path):
    """The bytes up to the voxels and the label map (8-bit, axes as NiBabel shows them)."""
    import numpy

    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        data = file.read()
    shape = numpy.frombuffer(data, "<i2", 3, 42)
    datatype, offset = int.from_bytes(data[70:72], "little"), int(numpy.frombuffer(data, "<f4", 1, 108)[0])
    if datatype != 2 or data[344:347] != b"n+1":
        sys.exit(f"{path}: datatype: found {datatype}, expected 2, an 8-bit label map in one NIfTI file")
    voxels = numpy.frombuffer(data, "u1", int(shape.prod()), offset).reshape(shape, order="F")
    return data[:offset], voxels


def write_moved(reference, prediction):
    import numpy

    header, voxels = read_labels(reference)
    moved = numpy.zeros_like(voxels)
    moved[2:, 2:, 2:] = voxels[:-2, :-2, :-2]
    with gzip.open(prediction, "wb", compresslevel=1) as file:
        file.write(header + moved.tobytes(order="F"))


def scipy_scores(prediction, reference):
    import numpy
    from scipy.ndimage import binary_erosion, distance_transform_edt, generate_binary_structure

    cross = generate_binary_structure(3, 1)

    def distances(a, b):
        border_a, border_b = a ^ binary_erosion(a, cross), b ^ binary_erosion(b, cross)
        return distance_transform_edt(~border_b)[border_a]

    both, either = numpy.count_nonzero(prediction & reference), numpy.count_nonzero(prediction | reference)
    there_and_back = numpy.hstack((distances(prediction, reference), distances(reference, prediction)))
    return {
        "dice": 2 * both / (both + either),
        "jaccard": both / either,
        "hd95": float(numpy.percentile(there_and_back, 95)),
        "asd": float(distances(prediction, reference).mean()),
    }


def scipy_process(prediction, reference, iterations):
    """Runs in a process of its own: prints seconds and scores."""
    import numpy
    import scipy

    masks = [numpy.ascontiguousarray(read_labels(path)[1] == 1) for path in (prediction, reference)]
    seconds = []
    for i in range(iterations + 1):
        start = time.perf_counter()
        scores = scipy_scores(*masks)
        if i > 0:
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"ms": 1e3 * common.median(seconds), "scores": scores, "version": f"SciPy {scipy.__version__}"}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--semivox", default=str(common.ROOT / "build" / "semivox"), help="program (build/semivox)")
    parser.add_argument("--python", default=sys.executable, help="Python that has SciPy (this one)")
    parser.add_argument("--reference", help="label map of two classes, NIfTI (default: a synthetic case)")
    parser.add_argument("--size", default="176x148x88", help="of the synthetic case (176x148x88)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs (3)")
    parser.add_argument("--iterations", type=int, default=3, help="timed repetitions in a process, after a warm-up (3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of semivox; SciPy has one (all)")
    parser.add_argument("--out", help="writes OUT.json and OUT.md (bench/results/metrics-DATE)")
    parser.add_argument("--prediction", help=argparse.SUPPRESS)  # with it, this is the process of the SciPy side
    options = parser.parse_args()
    if options.prediction:
        return scipy_process(options.prediction, options.reference, options.iterations)
    if not os.access(options.semivox, os.X_OK):
        parser.error(f"--semivox: {options.semivox} is no program, expected a built semivox (make)")
    if min(options.rounds, options.iterations, options.threads) < 1:
        parser.error("counts: expected at least 1")

    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        reference = options.reference
        if reference is None:
            data = os.path.join(folder, "data")
            common.run([options.semivox, "data", "synth", "--out", data, "--cases", "3", "--size", options.size])
            reference = str(sorted(pathlib.Path(data, "labelsTr").iterdir())[0])
        prediction = os.path.join(folder, "prediction.nii.gz")
        write_moved(reference, prediction)
        maps = ["--prediction", prediction, "--reference", reference]
        for number in range(options.rounds):
            output, _ = common.run([options.python, __file__, *maps, "--iterations", str(options.iterations)])
            theirs.append(json.loads(output.splitlines()[-1]))
            report = common.bench(
                options.semivox, "metrics", [*maps, "--iterations", options.iterations, "--threads", options.threads]
            )
            row = next(row for row in report["rows"] if row["work"].startswith("Dice"))
            version = f"semivox {report['environment']['version']} ({report['environment']['compiler']})"
            ours.append({"ms": row["ms"], "scores": report["scores"], "version": version})
            print(f"round {number + 1}/{options.rounds}: SciPy {theirs[-1]['ms']:.1f} ms, semivox {ours[-1]['ms']:.1f} ms")
    for name, expected in theirs[0]["scores"].items():
        found = ours[0]["scores"][name]
        if abs(found - expected) > 1e-6 * max(1, abs(expected)):
            sys.exit(f"{name}: found {found} by semivox, expected {expected} as by SciPy")

    record = {
        "machine": common.machine(),
        "versions": f"{theirs[0]['version']}, {ours[0]['version']}, {options.threads} threads",
        "shape": report["shape"],
        "scipy": theirs,
        "semivox": ours,
    }
    ratio = common.median([t["ms"] / o["ms"] for t, o in zip(theirs, ours)])
    rows = [
        ["SciPy, MedPy's route", f"{common.median([t['ms'] for t in theirs]):.1f}", "1.0"],
        ["semivox", f"{common.median([o['ms'] for o in ours]):.1f}", f"{ratio:.1f}"],
    ]
    shape = "x".join(map(str, report["shape"]))
    table = common.table([f"Dice, Jaccard, 95HD, ASD at {shape}", "ms", "× SciPy"], rows)
    common.write(options.out, "metrics", "semivox and SciPy: the scores of a case", record, [table])


if __name__ == "__main__":
    main()
