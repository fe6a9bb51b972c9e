"""Writes inputs and PyTorch's outputs for tests/model_parity.rs: ../fixtures/NAME.json and NAME.f32.

usage: python fixtures.py near.pt far.pt

The .f32 file holds, for each case of the .json, context, scalars and expected quantiles as little-endian float32.
"""

import argparse
import json
import pathlib

import numpy as np
import torch

from contract import LEVELS, MAX_LOG, MAX_UNITS, OUTLOOK_STEPS, SCALARS
from forecaster import load

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
SEED = 20240229


def relative(shape, rates, mask):
    """Rate channels `[grids, cells]` divided by the RMS of what is valid, missing cells 0: as the worker does it."""
    valid = rates[mask > 0]
    scale = max(np.sqrt(np.mean(valid**2)) if valid.size else 0.0, 1e-12)
    return np.where(mask > 0, rates / scale, 0.0), scale


def case(shape, rates, mask=None, temperature=None, offset_deviation=1e-6, rate_deviation=1e-9, step=64.0, outlook=0.0):
    """Tensors of one request from rates `[grids, cells]` in s/s; the experts expect a drift of the rate of `outlook` (s/s)/s."""
    grids = len(shape.rate_channels)
    mask = np.ones((grids, shape.cells)) if mask is None else mask
    values, scale = relative(shape, rates, mask)
    context = np.zeros((shape.channels, shape.cells))
    context[list(shape.rate_channels)] = values
    context[list(shape.mask_channels)] = mask
    if temperature is not None and shape.temperature_channels:
        context[list(shape.temperature_channels)] = temperature
    logs = np.log(np.array([rate_deviation / scale, offset_deviation / (scale * step)]))
    known = 1.0 if temperature is not None and shape.temperature_channels else 0.0
    ahead = np.array(OUTLOOK_STEPS) * step
    unit = np.hypot(scale * ahead, offset_deviation)
    expected = np.clip(0.5 * outlook * ahead**2 / unit, -MAX_UNITS, MAX_UNITS)
    claimed = np.hypot(offset_deviation, rate_deviation * ahead)
    claims = np.clip(np.log(claimed / unit), -MAX_LOG, MAX_LOG)
    scalars = np.array([*np.clip(logs, -MAX_LOG, MAX_LOG), mask.mean(), known, *expected, *claims])
    return context.astype(np.float32), scalars.astype(np.float32)


def cases(shape):
    """Named inputs: the ordinary ones and those that break careless arithmetic."""
    random = np.random.default_rng(SEED)
    grids, cells = len(shape.rate_channels), shape.cells
    noise = lambda size: random.normal(0.0, size, (grids, cells))
    ones, cell = np.ones((grids, cells)), np.arange(cells)
    old = np.broadcast_to(cell >= cells - cells // 8, (grids, cells)) * 1.0
    day = 5.0 * np.sin(cell / 13.0) * ones
    yield "white noise", case(shape, noise(1e-9))
    yield "random walk", case(shape, np.cumsum(noise(1e-10), -1))
    yield "constant", case(shape, 3e-9 * ones)
    yield "constant zero", case(shape, 0.0 * ones)
    yield "step", case(shape, np.where(cell < cells * 3 // 4, -8e-8, 1e-9) * ones + noise(1e-10))
    yield "ramp", case(shape, np.linspace(-1e-7, 0.0, cells) * ones)
    yield "wave with temperature", case(shape, 2e-8 * np.sin(cell / 13.0) * ones + noise(1e-9), temperature=day)
    yield "a drift that is expected", case(shape, np.linspace(-1e-8, 0.0, cells) * ones, outlook=1e-12)
    yield "an outlook beyond reason", case(shape, noise(1e-9), outlook=-1e3)
    yield "huge rates", case(shape, noise(4e-4), offset_deviation=10.0, rate_deviation=1e-3)
    yield "huge temperatures", case(shape, noise(1e-9), temperature=1e9 * day)
    yield "one spike", case(shape, np.where(cell == cells // 2, 1e-3, 0.0) * ones)
    yield "a third missing", case(shape, noise(1e-9), mask=(random.random((grids, cells)) > 0.33) * 1.0)
    yield "young clock", case(shape, noise(1e-8), mask=old, rate_deviation=1e-6, offset_deviation=1e-4)
    yield "nothing measured", case(shape, noise(1e-9), mask=0.0 * ones)
    yield "certain line", case(shape, noise(1e-7), offset_deviation=1e-18, rate_deviation=1e-18)


def write(name, shape, model, folder):
    """Runs `model` on every case and writes inputs and outputs to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    names, payload = [], b""
    for label, (context, scalars) in cases(shape):
        with torch.no_grad():
            expected = model(torch.from_numpy(context)[None], torch.from_numpy(scalars)[None])[0].numpy()
        if not (np.isfinite(expected).all() and (np.diff(expected, axis=-1) >= 0).all()):
            raise SystemExit(f"{name}, {label}: quantiles that are not finite or not in order; no fixtures written")
        names.append(label)
        payload += b"".join(a.astype("<f4").tobytes() for a in (context, scalars, expected))
    header = {"model": name, "seed": SEED, "context": [shape.channels, shape.cells], "scalars": SCALARS,
              "quantiles": [shape.rows, len(LEVELS)], "cases": names}
    (folder / f"{name}.json").write_text(json.dumps(header, indent=1) + "\n")
    (folder / f"{name}.f32").write_bytes(payload)
    print(f"{name}: {len(names)} cases, {len(payload)} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+")
    for path in parser.parse_args().checkpoints:
        model, _ = load(path)
        shape = model.network.shape
        write({64: "near", 16: "far"}[shape.rows], shape, model, FIXTURES)


if __name__ == "__main__":
    main()
