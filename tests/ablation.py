#!/usr/bin/env python3
"""The ablation table of docs/ACCURACY.md: what the models and each kind of classical expert are worth, per trace and horizon.

usage: tests/ablation.py TRACES [--chronotick PATH] [--models DIR] [--horizons 1024,4096,14400] [--every-expert]

TRACES holds NAME.csv and NAME.truth.csv. Every cell is an RMSE divided by that of `--forecasters none`, with a 95 % interval
from a circular block bootstrap (Politis and Romano, 1992): neighbouring forecasts share their errors, so whole blocks of them are drawn,
each as long as the horizon and at least two hours. Of fewer than three blocks no interval can be told, and none is printed. An expert's column holds the best of its kind, picked with hindsight; --every-expert
prints each one. Needs numpy, and `cargo build --release` first.
"""

import argparse
import csv
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

HORIZONS = (0, 16, 64, 256, 1024, 4096, 14400)
VOICES = ("none", "chronos", "ttm", "both")
DRAWS = 1000
SHORTEST_BLOCK = 7200.0
FEWEST_BLOCKS = 3
KINDS = ("filter", "temperature", "hold", "reversion", "drift", "daily", "cycle", "near model", "far model")


def columns(path):
    """`{name: float array}` of a CSV file with comments; an empty cell is NaN."""
    with open(path, encoding="utf-8") as lines:
        rows = csv.reader(line for line in lines if not line.startswith("#"))
        names = next(rows)
        cells = [row for row in rows]
    value = lambda text: float(text) if text else float("nan")
    return {n: np.array([value(row[i]) for row in cells]) for i, n in enumerate(names) if n not in ("tier", "source")}


def replayed(args, trace, voice, folder):
    """The predictions of one run."""
    rows = sum(1 for line in open(trace, encoding="utf-8") if not line.startswith("#"))
    stride, warmup = ("1", "40") if rows < 1500 else ("8", "256")
    out = pathlib.Path(folder) / f"{voice}.csv"
    command = [args.chronotick, "replay", trace, "--horizons", ",".join(map(str, args.horizons)), "--stride", stride, "--warmup", warmup,
               "--forecasters", voice, "--predictions", out]
    if voice == "both":
        command.append("--experts")
    if args.models:
        command += ["--models", args.models]
    if subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL).returncode:
        sys.exit(1)
    return columns(out)


def blocks(origin, length, random):
    """`[DRAWS, n]` indices of `origin` (ascending, s): stretches of `length` s put together, each begun at random on what is closed to a
    ring, so that every forecast is drawn as often as any other. None where there are too few of them."""
    each = max(1, round(length / max(float(np.median(np.diff(origin))), 1e-9)))
    if len(origin) < FEWEST_BLOCKS * each:
        return None
    starts = random.integers(0, len(origin), (DRAWS, -(-len(origin) // each)))
    return ((starts[:, :, None] + np.arange(each)).reshape(DRAWS, -1) % len(origin))[:, :len(origin)]


def ratio(error, base, drawn):
    """The RMSE of `error` over that of `base`, and its 95 % interval where there is one."""
    square, least = np.square(error), np.square(base)
    told = float(np.sqrt(square.mean() / least.mean()))
    return (told,) if drawn is None else (told, *np.quantile(np.sqrt(square[drawn].mean(1) / least[drawn].mean(1)), [0.025, 0.975]))


def cell(value):
    return ("{:.2f} ({:.2f} to {:.2f})" if len(value) > 1 else "{:.2f}").format(*value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=pathlib.Path)
    parser.add_argument("--chronotick", default=pathlib.Path(__file__).parent.parent / "target/release/chronotick")
    parser.add_argument("--models", help="folder of other model files")
    parser.add_argument("--horizons", default=HORIZONS, type=lambda text: tuple(int(h) for h in text.split(",")))
    parser.add_argument("--every-expert", action="store_true", help="one column for each expert instead of one for each kind")
    args = parser.parse_args()
    random = np.random.default_rng(1)
    header = None
    truths = sorted(args.traces.glob("*.truth.csv"))
    if not truths:
        sys.exit(f"{args.traces}: no *.truth.csv: name the folder of the traces")
    if not shutil.which(args.chronotick):
        sys.exit(f"{args.chronotick}: not there: build it with `cargo build --release`, or name it with --chronotick")
    for truth_path in truths:
        name = truth_path.name.removesuffix(".truth.csv")
        truth = columns(truth_path)
        with tempfile.TemporaryDirectory() as folder:
            runs = {voice: replayed(args, args.traces / f"{name}.csv", voice, folder) for voice in VOICES}
        said = runs["none"]
        # Seconds since the first origin: nanoseconds of a day are more digits than a float has.
        start = said["origin_ns"][0]
        at = (said["target_ns"] - start) * 1e-9
        local = (truth["local_ns"] - start) * 1e-9
        true = np.interp(at, local, truth["truth_offset_ns"]) * 1e-9
        known = (at >= local[0]) & (at <= local[-1])
        ahead = np.round((said["target_ns"] - said["origin_ns"]) * 1e-9)
        experts = [n for n in runs["both"] if n.rsplit(" ", 1)[0] in KINDS]
        groups = {e: [e] for e in experts} if args.every_expert else {k: [e for e in experts if e.rsplit(" ", 1)[0] == k] for k in KINDS}
        if header is None:
            header = ["trace", "horizon s", "none: RMSE us", *VOICES[1:], *groups]
            print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
        for horizon in args.horizons:
            rows = known & (ahead == horizon)
            if rows.sum() < 8:
                continue
            error = lambda run, column="offset_ns": run[column][rows] * 1e-9 - true[rows]
            none = error(said)
            drawn = blocks((said["origin_ns"][rows] - start) * 1e-9, max(SHORTEST_BLOCK, horizon), random)
            cells = [cell(ratio(error(runs[voice]), none, drawn)) for voice in VOICES[1:]]
            for members in groups.values():
                # Where an expert has no opinion the bank's stands, as in the fusion.
                alone = [np.where(np.isfinite(e), e, none) for e in (error(runs["both"], m) for m in members)]
                best = min(alone, key=lambda e: float(np.square(e).mean()))
                silent = not any(np.isfinite(runs["both"][m][rows]).any() for m in members)
                cells.append("" if silent else cell(ratio(best, none, drawn)))
            print("| " + " | ".join([name, str(horizon), f"{1e6 * np.sqrt(np.square(none).mean()):.2f}", *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
