#!/usr/bin/env python3
"""The error that a reader sees, second by second: what docs/ACCURACY.md compares with chronyd's.

usage: tests/served.py TRACE TRUTH [--after 3600] [--chronotick PATH]

Replays TRACE without models, frozen at every exchange, and reads every second of TRUTH (local_ns,truth_offset_ns) from the latest frozen
state, as a reader of the page would. Prints the RMS error, and the shares inside the 95 % interval and outside the hard bound, of what comes
`--after` so many seconds. Needs numpy, and `cargo build --release` first.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from interval_score import columns

AHEAD = (0, 4, 8, 16, 24, 32, 48, 64, 96, 128)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=pathlib.Path)
    parser.add_argument("truth", type=pathlib.Path)
    parser.add_argument("--after", type=float, default=3600.0)
    parser.add_argument("--chronotick", default=pathlib.Path(__file__).parent.parent / "target/release/chronotick")
    args = parser.parse_args()
    at, truth = columns(args.truth, "local_ns", "truth_offset_ns")
    with tempfile.TemporaryDirectory() as folder:
        said = pathlib.Path(folder) / "predictions.csv"
        command = [args.chronotick, "replay", args.trace, "--horizons", ",".join(map(str, AHEAD)), "--stride", 1, "--warmup", 8,
                   "--forecasters", "none", "--predictions", said]
        if subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL).returncode:
            sys.exit(1)
        names = ("origin_ns", "offset_ns", "low95_ns", "high95_ns", "bound_low_ns", "bound_high_ns")
        table = np.stack(columns(said, *names), -1).reshape(-1, len(AHEAD), len(names))
    origins = table[:, 0, 0]
    error, inside, outside = [], [], []
    for now, true in zip(at, truth):
        latest = int(np.searchsorted(origins, now, side="right")) - 1
        age = (now - origins[max(latest, 0)]) * 1e-9
        if now - at[0] < args.after * 1e9 or latest < 0 or age > AHEAD[-1]:
            continue
        offset, low, high, bottom, top = (np.interp(age, AHEAD, table[latest, :, column]) for column in range(1, len(names)))
        error.append(offset - true)
        inside.append(low <= true <= high)
        outside.append(not bottom <= true <= top)
    if not error:
        sys.exit(f"{args.trace}: shorter than --after")
    print(f"{len(error)} seconds: RMS {1e-3 * np.sqrt(np.square(error).mean()):.2f} us, inside {np.mean(inside):.3f}, outside the bound {sum(outside)}")


if __name__ == "__main__":
    main()
