"""Fits a shipped forecaster to recordings of one's own machine.

usage: chronotick training-set TRACE.csv ... --out recorded
       python fine_tune.py near recorded --out near-mine.pt
       python export.py near-mine.pt DIR/chronotick-near.onnx          (and point `models.dir` at DIR)

The first four fifths of every recording train, the last fifth decides: where the fitted model is not better there than
the shipped one, nothing is written and an older `--out` stays. A few days of one machine are little data, so the steps are few
and small; `train.py`'s other options hold here too.
"""

import os
import pathlib
import signal
import sys

import torch

from forecaster import load, replacing
from shards import Windows
from train import evaluate, parser, train

CHECKPOINTS = pathlib.Path(__file__).parent / "checkpoints"
# What must be gained on the last fifth for the fitted model to be worth keeping.
WORTHWHILE = 0.01


def main():
    arguments = parser()
    arguments.description = __doc__
    arguments.set_defaults(steps=400, rate=1e-4, every=25, average=0.99)
    args = arguments.parse_args()
    args.start = args.start or str(CHECKPOINTS / f"{args.model}.pt")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise SystemExit("fine_tune.py runs in one process: start it without torchrun")
    out, (shipped, _) = args.out, load(args.start, args.model)
    if out.exists() and any(out.samefile(path) for path in (args.start, *CHECKPOINTS.glob("*.pt"))):
        raise SystemExit(f"{out}: what is started from, or shipped; give another --out")
    torch.set_num_threads(args.threads)
    held_out = Windows(args.shards, args.model, "valid").first(args.valid)
    before, rmse, _ = evaluate(shipped, held_out, "cpu")
    print(f"as shipped: loss {before:.4f}, RMSE ratio {rmse:.4f} on {len(held_out)} windows of {held_out.describe()}")
    # Whoever ends it finds no half-fitted file.
    for ended in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ended, lambda *_: sys.exit("ended; nothing written"))
    with replacing(out) as args.out:
        train(args)
        after, rmse, _ = evaluate(load(args.out)[0], held_out, "cpu")
        print(f"fitted:     loss {after:.4f}, RMSE ratio {rmse:.4f}")
        if not after <= (1.0 - WORTHWHILE) * before:
            raise SystemExit("not worth it: the fitted model is not better on the last fifth; keep the shipped one; nothing written")
    print(f"{out}: written")


if __name__ == "__main__":
    main()
