#!/usr/bin/env python3
"""The interval score (Gneiting and Raftery 2007, alpha 0.05; lower is better) of predictions, beside that of the intervals which
a Gaussian Kalman filter claims.

usage: tests/interval_score.py TRACE TRUTH PREDICTIONS

TRACE and TRUTH are as `chronotick simulate` writes them, PREDICTIONS as `chronotick replay --predictions` does. The filter has two
states, offset and rate, a measurement variance from the excess of the delay over the least of 64, and the process noise of a random
walk of the rate. There is one for each of five powers of that, and the best is picked with hindsight per horizon.
Prints one JSON object: horizon in s to both scores in us. Needs numpy.
"""
import json
import sys

import numpy as np

WANDERS = [10.0**decade for decade in (-24, -22, -20, -18, -16)]
NORMAL_975 = 1.96


def columns(path, *names):
    """The named columns of a CSV file with comments, as float64."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.rstrip("\n") for line in file if not line.startswith("#")]
        header = lines[0].split(",")
        places = [header.index(name) for name in names]
        rows = np.array([[line.split(",")[place] for place in places] for line in lines[1:]], dtype=float)
    except (OSError, IndexError, ValueError) as error:
        sys.exit(f"{path}: not a CSV file with {', '.join(names)}: {error}")
    return rows.T


def filtered(t, z, delay, wander):
    """Mean (offset, rate) and covariance (xx, xr, rr) after every sample: arrays of shape (n, 2) and (n, 3)."""
    means, covariances = np.zeros((len(t), 2)), np.zeros((len(t), 3))
    mean, (xx, xr, rr) = np.array([z[0], 0.0]), (1e-6, 0.0, 1e-8)
    for i in range(len(t)):
        if i:
            dt = t[i] - t[i - 1]
            mean[0] += mean[1] * dt
            xx += dt * (2.0 * xr + dt * rr) + wander * dt**3 / 3.0
            xr += dt * rr + wander * dt**2 / 2.0
            rr += wander * dt
        recent = delay[max(0, i - 63) : i + 1]
        least = recent.min()
        noise = max((0.7 * (np.median(recent) - least)) ** 2, 1e-13) + ((delay[i] - least) / 2.0) ** 2
        if i < 8:
            noise = max(noise, (delay[i] / 2.0) ** 2)
        gain = np.array([xx, xr]) / (xx + noise)
        mean = mean + gain * (z[i] - mean[0])
        xx, xr, rr = xx - gain[0] * xx, xr - gain[0] * xr, rr - gain[1] * xr
        means[i], covariances[i] = mean, (xx, xr, rr)
    return means, covariances


def score(low, high, truth):
    """Mean interval score of the 95 % intervals."""
    return float(np.mean(high - low + 40.0 * np.maximum(low - truth, 0.0) + 40.0 * np.maximum(truth - high, 0.0)))


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    t, z, delay = columns(sys.argv[1], "local_ns", "offset_ns", "delay_ns") / 1e9
    true_t, true_x = columns(sys.argv[2], "local_ns", "truth_offset_ns") / 1e9
    origin, target, low, high = columns(sys.argv[3], "origin_ns", "target_ns", "low95_ns", "high95_ns") / 1e9
    horizon = np.round(target - origin, 3)
    gaps = np.diff(true_t)
    gap = np.append(gaps, np.inf)[np.clip(np.searchsorted(true_t, target, side="right") - 1, 0, len(gaps))]
    known = (target >= true_t[0]) & (target <= true_t[-1]) & (gap <= max(4.0 * np.median(gaps), 64.0))
    truth = np.interp(target, true_t, true_x)
    last = np.searchsorted(t, origin, side="right") - 1
    ahead = target - t[last]
    claims = []
    for wander in WANDERS:
        means, covariances = filtered(t, z, delay, wander)
        mean, (xx, xr, rr) = means[last], covariances[last].T
        variance = xx + ahead * (2.0 * xr + ahead * rr) + wander * ahead**3 / 3.0
        half = NORMAL_975 * np.sqrt(variance)
        middle = mean[:, 0] + mean[:, 1] * ahead
        claims.append((middle - half, middle + half))
    result = {}
    for h in sorted(set(horizon)):
        here = known & (horizon == h)
        if here.sum() >= 8:
            kalman = min(score(lo[here], hi[here], truth[here]) for lo, hi in claims)
            result[f"{h:.1f}"] = {"own_us": score(low[here], high[here], truth[here]) * 1e6, "kalman_us": kalman * 1e6}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
