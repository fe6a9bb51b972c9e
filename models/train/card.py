"""Writes a model's card from its checkpoint, its ONNX file and the held-out windows of a set.

usage: python card.py near.pt SHARDS ../chronotick-near.onnx

Writes ../chronotick-near.md and ../plots/near-loss.svg, beside the ONNX file and with its name. What the checkpoint began with
and its teachers are looked for beside the checkpoint.
"""

import argparse
import hashlib
import io
import math
import pathlib
from collections import defaultdict

import matplotlib
import numpy as np
import torch

from contract import LEVELS, MEDIAN
from export import TOLERANCE, difference
from forecaster import load, parameters, place, replacing
from layers import Expected
from losses import FAR_OFF, coverage, in_claims, missed, skill
from shards import Windows

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "chronotick"
from matplotlib import pyplot  # noqa: E402  (the backend has to be chosen first)

MISSING = "not recorded"
TWO_LOSSES = "The training loss is the distance from the teachers, the held-out one that from the truth: two quantities, on two axes.\n\n"
ABOUT = {
    "near": ("Chronos-Bolt", "chronos_bolt.py", "the next 64 steps (68 minutes at a step of 64 s), one row a step"),
    "far": ("TinyTimeMixer", "tiny_time_mixer.py", "the next 256 steps (4.6 hours at a step of 64 s), one row every 16 steps"),
}
PAPER = {
    "near": "Ansari et al. 2024 (Chronos), Raffel et al. 2020 (T5)",
    "far": "Ekambaram et al. 2024 (Tiny Time Mixers), 2023 (TSMixer)",
}


def loss_plot(curve, taught, judged):
    """The loss curve as a small SVG; the loss of what was `taught` by teachers has an axis of its own."""
    steps, train, valid = (np.array(curve)[:, i] for i in range(3))
    figure, axes = pyplot.subplots(figsize=(5.0, 2.6))
    other = axes.twinx() if taught else axes
    lines = axes.plot(steps, train, label="distance to the teachers (left)" if taught else "training (augmented)", linewidth=1)
    lines += other.plot(steps, valid, label=f"{judged} (right)" if taught else judged, linewidth=1, color="C1")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(handles=lines, frameon=False, **(dict(loc="lower left", bbox_to_anchor=(0.0, 1.0)) if taught else {}))
    for each in (axes, other):
        each.spines[["top"] if taught else ["top", "right"]].set_visible(False)
    figure.tight_layout()
    made = io.BytesIO()
    figure.savefig(made, format="svg", metadata={"Date": None, "Creator": None})
    return made.getvalue()


def table(rows):
    """A Markdown table; the first row is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def number(value):
    """Three digits, or a dash where there was nothing to compute it from."""
    return f"{value:.3f}" if math.isfinite(value) else "-"


def about(path):
    """What a checkpoint that training used says of itself."""
    if not path.exists():
        return f"`{path.name}`, which was not beside the checkpoint"
    record = defaultdict(lambda: MISSING, load(path)[1])
    return f"`{path.name}` (SHA-256 `{hashlib.sha256(path.read_bytes()).hexdigest()}`; {record['data']}; training seed {record['seed']})"


def sources(record, folder):
    """Rows on what the weights began as and what they learnt from; old records say of a start only that there was one."""
    start, teachers = record.get("start", True), record.get("teachers")
    began = MISSING if start is True else about(folder / start) if start else "random weights"
    learnt = MISSING if teachers is None else "the weighted mean of what the teachers say" if teachers else "the truth"
    return [["start", began], ["learnt from", learnt],
            *([f"teacher, weight {weight:g}", about(folder / name)] for name, weight in teachers or [])]


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
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("shards")
    parser.add_argument("onnx", type=place)
    args = parser.parse_args()
    model, record = load(args.checkpoint)
    shape = model.network.shape
    name = {64: "near", 16: "far"}[shape.rows]
    windows = Windows(args.shards, name, "valid").first(20000)
    try:
        apart = difference(args.onnx, model, windows.context[:8], windows.scalars[:8])
    except Exception as error:  # onnxruntime's errors have no type of their own.
        raise SystemExit(f"{args.onnx}: does not run as a {name} model: {' '.join(str(error).split())}")
    if not apart <= TOLERANCE:
        raise SystemExit(f"{args.onnx}: not what export.py makes of {args.checkpoint}: its answers are {apart:.1e} off; export it anew")
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
    random = np.random.default_rng(1)
    recorded = windows.describe().startswith("recorded traces")
    judged, units = ("held-out recordings", "tenths of recordings") if recorded else ("held-out worlds", "worlds")
    skills = [["steps ahead", "RMSE ratio", "95 % interval", f"geometric mean over {units}", "mean absolute error ratio",
               "inside 95 %", "inside 80 %", "inside 50 %"]]
    for r in rows:
        interval = " to ".join(map(number, bootstrap(error[:, r], base[:, r], random)))
        inside = [number(below[r, 8 - i] - below[r, i]) for i in (0, 2, 3)]
        skills.append([str((r + 1) * shape.stride), number(rmse[r]), interval.replace("- to -", "-"), number(worlds[r]), number(mae[r]),
                       *inside])
    calibration = [["level", *(f"{level:g}" for level in LEVELS)]]
    for r in rows:
        calibration.append([f"{(r + 1) * shape.stride} steps", *map(number, below[r])])
    architecture, source, reach = ABOUT[name]
    data = args.onnx.read_bytes()
    known = defaultdict(lambda: MISSING, record)
    curve = [["step", "training loss", "held-out loss", "RMSE ratio", "MAE ratio"]]
    curve += [[str(v) if math.isfinite(v) else "-" for v in line] for line in record["curve"][:: max(1, len(record["curve"]) // 10)]]
    ground = "recordings" if known["data"].startswith("recorded traces") else "simulated oscillators and networks"
    unseen = ": ranges of parameters that training never saw" if "held-out worlds" in known["judged"] else ""
    measured = f"{windows.describe()}, {len(windows)} windows"
    facts = [["", ""],
             ["file", f"`{args.onnx.name}`, {len(data)} bytes"],
             ["SHA-256", f"`{hashlib.sha256(data).hexdigest()}`"],
             ["licence", "MIT OR Apache-2.0, as the rest of the project; no data of others went in"],
             ["training data", f"{known['data']}: `chronotick training-set`, this project's estimator over {ground}"],
             ["held out", f"{known['judged']}{unseen}"],
             ["windows", f"{known['windows']} for training, {known['held_out']} held out"],
             ["training", f"{known['steps']} of {known['planned_steps']} steps of {known['batch']} windows ({known['device']}), AdamW at "
                          f"{known['rate']}, weight decay {known['decay']}, weights averaged with memory {known['average']}"],
             *sources(record, args.checkpoint.parent),
             ["seed", str(known["seed"])],
             ["architecture", ", ".join(f"{k} {v}" for k, v in model.network.config.items())]]
    plot = args.onnx.parent / "plots" / f"{args.onnx.stem.removeprefix('chronotick-')}-loss.svg"
    picture = loss_plot(record["curve"], record.get("teachers"), "held-out worlds" if unseen else "held out")
    text = f"""# {args.onnx.stem}

{architecture} architecture, {parameters(model)} parameters, trained from scratch. Forecasts {reach}. Written from the papers
({PAPER[name]}); code in `train/{source}`. Inputs and outputs: `train/contract.py`.

{table(facts)}

## Skill on {judged}

Error of the median divided by the error of what the classical experts together expect, which the model is told. Below 1 it adds
to what they know. Measured on {measured}. Errors relative to the deviation that the experts claim, limited at {FAR_OFF:g} of it;
the interval resamples {units}, not windows. The geometric mean counts all {units} alike. The last columns are the share of truths inside
the central intervals.

{table(skills)}

## Calibration on {judged}

Share of truths below each quantile, on {measured}.

{table(calibration)}

## Loss curves

![loss](plots/{plot.name})

{TWO_LOSSES if record.get("teachers") else ""}{table(curve)}

## Limits

* Trained on {ground}, measured on {judged}. Losses there do not predict transfer to another machine: the
  fusion weighs the model by its errors there, and mutes it where it does not help.
* Where the classical experts are already right, the medians are what they say.
* The scale of a forecast follows the history's. A clock that changes its habits is forecast by the old ones.
* Nothing is known about the time of day. A daily pattern has to be visible in the history.
"""
    plot.parent.mkdir(exist_ok=True)
    for path, made in ((plot, picture), (args.onnx.with_suffix(".md"), text.encode())):
        with replacing(path) as fresh:
            fresh.write_bytes(made)
    print("\n".join(" ".join(row) for row in skills))


if __name__ == "__main__":
    main()
