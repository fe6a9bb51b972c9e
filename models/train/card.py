"""Writes a model's card from its checkpoint, its ONNX file and the held-out worlds.

usage: python card.py near.pt SHARDS ../chronotick-near.onnx

Writes ../chronotick-near.md and ../plots/near-loss.svg.
"""

import argparse
import hashlib
import pathlib

import matplotlib
import numpy as np
import torch

from contract import LEVELS, MEDIAN
from forecaster import load, parameters
from layers import Expected
from losses import FAR_OFF, coverage, in_claims, missed, skill
from shards import Windows

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "chronotick"
from matplotlib import pyplot  # noqa: E402  (the backend has to be chosen first)

MODELS = pathlib.Path(__file__).parent.parent
ABOUT = {
    "near": ("Chronos-Bolt", "chronos_bolt.py", "the next 64 steps (68 minutes at a step of 64 s), one row a step"),
    "far": ("TinyTimeMixer", "tiny_time_mixer.py", "the next 256 steps (4.6 hours at a step of 64 s), one row every 16 steps"),
}
PAPER = {
    "near": "Ansari et al. 2024 (Chronos), Raffel et al. 2020 (T5)",
    "far": "Ekambaram et al. 2024 (Tiny Time Mixers), 2023 (TSMixer)",
}


def loss_plot(name, curve):
    """The loss curve as a small SVG."""
    steps, train, valid = (np.array(curve)[:, i] for i in range(3))
    figure, axes = pyplot.subplots(figsize=(5.0, 2.6))
    axes.plot(steps, train, label="training (augmented)", linewidth=1)
    axes.plot(steps, valid, label="held-out worlds", linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    (MODELS / "plots").mkdir(exist_ok=True)
    figure.savefig(MODELS / "plots" / f"{name}-loss.svg", metadata={"Date": None, "Creator": None})


def table(rows):
    """A Markdown table; the first row is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def taught(teachers):
    """What the targets were."""
    if not teachers:
        return "the truth"
    return "the mean of what " + ", ".join(f"`train/checkpoints/{name}` ({weight:g})" for name, weight in teachers) + " say"


def squares(quantiles, windows, expected, claimed):
    """Squared errors of the median and of what was `expected`, both `[n, rows]` and in claimed deviations; 0 where unknown."""
    target, known = missed(windows.target, expected, claimed)
    return (in_claims(quantiles[..., MEDIAN], expected, claimed) - target).square() * known, target.square()


def sums(values, windows):
    """`[n]` or `[n, rows]` added up for every world: windows of one are not independent."""
    worlds, index = torch.unique(windows.world, return_inverse=True)
    return torch.zeros(len(worlds), *values.shape[1:]).index_add_(0, index, values)


def bootstrap(error, base, random):
    """95 % interval of the RMSE ratio of one row, resampling whole worlds; sums of squares, `[worlds]`."""
    drawn = torch.from_numpy(random.integers(0, len(error), (500, len(error))))
    ratio = (error[drawn].sum(1) / base[drawn].sum(1)).sqrt()
    return [float(torch.quantile(ratio, q)) for q in (0.025, 0.975)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("shards")
    parser.add_argument("onnx", type=pathlib.Path)
    args = parser.parse_args()
    model, record = load(args.checkpoint)
    shape = model.network.shape
    name = {64: "near", 16: "far"}[shape.rows]
    windows = Windows(args.shards, name, "valid").first(20000)
    with torch.no_grad():
        quantiles = torch.cat([model(c, s) for c, s, _ in windows.batches(1024)])
    outlook = Expected(shape)
    expected, claimed = outlook(windows.scalars), outlook.claimed(windows.scalars)
    rmse, mae = skill(quantiles, windows.target, expected, claimed)
    error, base = (sums(values, windows) for values in squares(quantiles, windows, expected, claimed))
    # Every clock counts alike, however large its errors are.
    worlds = (error / base).sqrt().log().nanmean(0).exp()
    below = coverage(quantiles, windows.target)
    rows = [r for r in (0, 3, 7, 15, 31, 63) if r < shape.rows]
    loss_plot(name, record["curve"])
    random = np.random.default_rng(1)
    skills = [["steps ahead", "RMSE ratio", "95 % interval", "geometric mean over worlds", "mean absolute error ratio", "inside 95 %", "inside 80 %", "inside 50 %"]]
    for r in rows:
        low, high = bootstrap(error[:, r], base[:, r], random)
        inside = [f"{float(below[r, 8 - i] - below[r, i]):.3f}" for i in (0, 2, 3)]
        skills.append([str((r + 1) * shape.stride), f"{rmse[r]:.3f}", f"{low:.3f} to {high:.3f}", f"{worlds[r]:.3f}", f"{mae[r]:.3f}", *inside])
    calibration = [["level", *(f"{level:g}" for level in LEVELS)]]
    for r in rows:
        calibration.append([f"{(r + 1) * shape.stride} steps", *(f"{float(v):.3f}" for v in below[r])])
    architecture, source, reach = ABOUT[name]
    data = args.onnx.read_bytes()
    curve = [["step", "training loss", "held-out loss", "RMSE ratio", "MAE ratio"]]
    curve += [[str(v) for v in line] for line in record["curve"][:: max(1, len(record["curve"]) // 10)]]
    text = f"""# chronotick-{name}

{architecture} architecture, {parameters(model)} parameters, trained from scratch. Forecasts {reach}. Written from the papers
({PAPER[name]}); code in `train/{source}`. Inputs and outputs: `train/contract.py`.

| | |
|---|---|
| file | `{args.onnx.name}`, {len(data)} bytes |
| SHA-256 | `{hashlib.sha256(data).hexdigest()}` |
| licence | MIT OR Apache-2.0, as the rest of the project; no data of others went in |
| training data | {record['data']}: `chronotick training-set`, this project's estimator over simulated oscillators and networks |
| held out | {record['judged']}: ranges of parameters that training never saw |
| windows | {record['windows']} for training, {record['held_out']} held out |
| training | {record['steps']} of {record['planned_steps']} steps of {record['batch']} windows ({record['device']}), AdamW at {record['rate']:g}, weight decay {record['decay']:g}, weights averaged with memory {record['average']:g} |
| start | {'`train/checkpoints/' + record['start'] + '`' if record['start'] else 'random weights'} |
| learnt from | {taught(record['teachers'])} |
| seed | {record['seed']} |
| architecture | {', '.join(f'{k} {v}' for k, v in model.network.config.items())} |

## Skill on held-out worlds

Error of the median divided by the error of what the classical experts together expect, which the model is told. Below 1 it adds
to what they know. Errors relative to the deviation that they claim, limited at {FAR_OFF:g} of it, over {len(windows)} windows;
the interval resamples whole worlds. The geometric mean counts every world alike. The last columns are the share of truths inside
the central intervals.

{table(skills)}

## Calibration on held-out worlds

Share of truths below each quantile.

{table(calibration)}

## Loss curves

![loss](plots/{name}-loss.svg)

{table(curve)}

## Limits

* Trained and measured on simulated oscillators. Losses on simulated worlds do not predict transfer to a real machine: the
  fusion weighs the model by its errors there, and mutes it where it does not help.
* Where the classical experts are already right, the medians are what they say.
* The scale of a forecast follows the history's. A clock that changes its habits is forecast by the old ones.
* Nothing is known about the time of day. A daily pattern has to be visible in the history.
"""
    (MODELS / f"chronotick-{name}.md").write_text(text)
    print("\n".join(" ".join(row) for row in skills))


if __name__ == "__main__":
    main()
