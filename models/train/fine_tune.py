"""Fits a shipped forecaster to recordings of one's own machine.

usage: chronotick training-set TRACE.csv ... --out recorded
       python fine_tune.py near recorded --out near-mine.pt
       python export.py near-mine.pt DIR/chronotick-near.onnx          (and point `models.dir` at DIR)

The first four fifths of every recording train, the last fifth decides: where the fitted model is not better there than
the shipped one, nothing is written. A few days of one machine are little data, so the steps are few and small; `train.py`'s
other options hold here too.
"""

import pathlib

import torch

from forecaster import load
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
    torch.set_num_threads(args.threads)
    held_out = Windows(args.shards, args.model, "valid").first(args.valid)
    before, rmse, _ = evaluate(load(args.start)[0], held_out, "cpu")
    print(f"as shipped: loss {before:.4f}, RMSE ratio {rmse:.4f} on {len(held_out)} windows of {held_out.describe()}")
    train(args)
    after, rmse, _ = evaluate(load(args.out)[0], held_out, "cpu")
    print(f"fitted:     loss {after:.4f}, RMSE ratio {rmse:.4f}")
    if after > (1.0 - WORTHWHILE) * before:
        pathlib.Path(args.out).unlink()
        raise SystemExit("not worth it: the fitted model is not better on the last fifth; keep the shipped one")


if __name__ == "__main__":
    main()
