#!/usr/bin/env python3
"""A row of docs/ACCURACY.md's table of simulated clocks: what the models are worth on many of them.

usage: tests/clocks.py SCORER KIND,... FIRST-LAST [--hours 36] [--chronotick PATH] [--keep DIR]

Simulates a clock of every KIND (`chronotick simulate --list`) and seed, replays it with both models and without, and scores either with
SCORER, which is called as `python3 SCORER TRACE TRUTH PREDICTIONS --json` and needs numpy. Prints geometric means of the ratios to the best
baseline, those of the error with the models to that without, and every row where that is more than 1.03. Needs `cargo build --release`.
"""

import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile

HORIZONS = (0, 16, 64, 256, 1024, 4096, 14400)
VOICES = ("both", "none")


def run(*command):
    """What a program prints; its own words and an end where it fails."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} has failed")
    return done.stdout


def scored(args, kind, seed, folder):
    """`{voice: {horizon: (ratio to the best baseline, RMSE)}}` of one clock."""
    trace, truth, said = (folder / f"{kind}-{seed}-{args.hours:g}h.{end}" for end in ("csv", "truth.csv", "predictions.csv"))
    if not truth.exists():
        run(args.chronotick, "simulate", "--kind", kind, "--seed", seed, "--hours", args.hours, "--out", trace, "--truth", truth)
    # As accuracy.sh does it.
    short = sum(not line.startswith("#") for line in open(trace, encoding="utf-8")) < 1500
    pace = ("--stride", 1, "--warmup", 40) if short else ("--stride", 8, "--warmup", 256)
    result = {}
    for voice in VOICES:
        run(args.chronotick, "replay", trace, "--horizons", ",".join(map(str, HORIZONS)), *pace, "--forecasters", voice, "--predictions", said)
        told = json.loads(run(sys.executable, args.scorer, trace, truth, said, "--json"))["horizons"]
        result[voice] = {int(float(h)): (row["ratio_to_best"], row["rmse_us"]) for h, row in told.items()}
        said.unlink()
    return result


def mean(values):
    """The geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scorer", type=pathlib.Path)
    parser.add_argument("kinds", type=lambda text: text.split(","))
    parser.add_argument("seeds", type=lambda text: range(int(text.split("-")[0]), int(text.split("-")[-1]) + 1))
    parser.add_argument("--hours", type=float, default=36)
    parser.add_argument("--chronotick", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "target/release/chronotick")
    parser.add_argument("--keep", type=pathlib.Path, help="keep the clocks in this folder, and use those that are there")
    args = parser.parse_args()
    if not args.scorer.is_file() or not shutil.which(args.chronotick):
        sys.exit(f"{args.scorer} or {args.chronotick}: not there")
    with tempfile.TemporaryDirectory() as made:
        folder = args.keep or pathlib.Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        clocks = {f"{kind} {seed}": scored(args, kind, seed, folder) for kind in args.kinds for seed in args.seeds}
    if not clocks:
        sys.exit("no seed between FIRST and LAST")
    print("| horizon s | ratio: both | none | both over none |\n|---|---|---|---|")
    for horizon in HORIZONS:
        rows = [clock for clock in clocks.values() if all(horizon in clock[voice] for voice in VOICES)]
        if rows:
            ratios = [mean([clock[voice][horizon][0] for clock in rows]) for voice in VOICES]
            gain = mean([clock["both"][horizon][1] / clock["none"][horizon][1] for clock in rows])
            print(f"| {horizon} | {ratios[0]:.2f} | {ratios[1]:.2f} | {gain:.3f} |")
    worse = [(clock["both"][h][1] / rmse, name, h) for name, clock in clocks.items() for h, (_, rmse) in clock["none"].items() if h in clock["both"]]
    print(f"{len(clocks)} clocks, {len(worse)} rows, at most {max(worse)[0]:.3f}", *("%.3f: %s at %d s" % row for row in sorted(worse)[::-1] if row[0] > 1.03), sep="\n")


if __name__ == "__main__":
    main()
