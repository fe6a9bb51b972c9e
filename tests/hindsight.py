#!/usr/bin/env python3
"""How much better a forecast could have been: the served one beside linear forecasts that know what nobody can.

usage: hindsight.py TRUTH.csv PREDICTIONS.csv [HORIZON ...]

TRUTH        local_ns, truth_offset_ns, as `chronotick simulate --truth` writes it
PREDICTIONS  origin_ns, target_ns, offset_ns, as `chronotick replay --predictions` writes it
HORIZON      seconds; 1024 4096 14400 without any

Per horizon, the RMSE of the predictions in us and its ratio to that of three forecasts. Each of them sees the true offset without any
noise, takes the mean rates over the last 64 s, 128 s and so on up to eighteen hours, and combines them linearly with the coefficients
that are the best for the very errors that are counted: `few` takes the four shortest of these rates, `many` all eleven, `day` also
knows the mean day of this clock, with two harmonics. A ratio of 1 and less says that the prediction is as good as a linear one can
be that knows as much. Needs numpy only.
"""

import csv
import sys

import numpy as np

WINDOWS = [64.0 * 2**k for k in range(11)]
FEW = 4
DAY = 86400.0
# Before, the longer windows hold nothing.
WARMUP = 7200.0


def columns(path, names):
    try:
        with open(path, encoding="utf-8") as file:
            rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
        return [np.array([int(float(row[name])) for row in rows or [{}]]) for name in names]
    except (OSError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"{path}: not a CSV file with {', '.join(names)}: {error}")


def rmse(errors):
    return 1e6 * np.sqrt(np.mean(errors**2))


def left(wanted, known):
    """What the best combination of the columns of `known` leaves of `wanted`."""
    coefficients = np.linalg.lstsq(known, wanted, rcond=None)[0]
    return wanted - known @ coefficients


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    local, offset = columns(sys.argv[1], ("local_ns", "truth_offset_ns"))
    origin, target, said = columns(sys.argv[2], ("origin_ns", "target_ns", "offset_ns"))
    zero = local[0]
    time, truth = 1e-9 * (local - zero), 1e-9 * offset
    start, end = 1e-9 * (origin - zero), 1e-9 * (target - zero)
    print("| horizon | forecasts | RMSE us | over few | over many | over day |\n|---|---|---|---|---|---|")
    for horizon in [float(h) for h in sys.argv[3:]] or [1024.0, 4096.0, 14400.0]:
        rows = (np.abs(end - start - horizon) < 1.0) & (start >= WARMUP) & (end <= time[-1])
        if rows.sum() < 10 * len(WINDOWS):
            print(f"| {horizon:.0f} s | {rows.sum()} | too few | | | |")
            continue
        at, then = start[rows], end[rows]
        here, there = np.interp(at, time, truth), np.interp(then, time, truth)
        error = rmse(1e-9 * said[rows] - there)
        back = [np.minimum(window, at) for window in WINDOWS]
        rates = [(here - np.interp(at - window, time, truth)) / window for window in back]
        moved = (there - here) / horizon - rates[0]
        beyond = np.stack([rate - rates[0] for rate in rates[1:]], 1)
        phase = 2.0 * np.pi * at / DAY
        waves = [wave(k * phase) for k in (1, 2) for wave in (np.sin, np.cos)]
        day = np.column_stack([beyond, np.ones_like(phase), *waves])
        known = [beyond[:, : FEW - 1], beyond, day]
        ratios = [error / (horizon * rmse(left(moved, columns))) for columns in known]
        print(f"| {horizon:.0f} s | {rows.sum()} | {error:.1f} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")


if __name__ == "__main__":
    main()
