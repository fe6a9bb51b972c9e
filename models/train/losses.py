"""What training minimises and what cards report. Targets that are NaN (the truth ended) do not count."""

import torch

from contract import LEVELS, MEDIAN

HUBER_SHARE = 0.15
# Beyond this many units a target says only "far away": windows in which the filter was lost would drown all others.
TARGET_LIMIT = 8.0
# Errors count relative to the deviation that the classical experts claim, so that every clock counts alike, within these limits.
IMPORTANCE = (0.25, 8.0)


def importance(claimed):
    """What an error of one unit counts for, given the `claimed` deviation in units."""
    return torch.clamp(torch.reciprocal(claimed), *IMPORTANCE)


def limited(target):
    """Targets within the limit, 0 where unknown, and 1 or 0 for known."""
    known = torch.isfinite(target)
    return torch.where(known, target, 0.0).clamp(-TARGET_LIMIT, TARGET_LIMIT), known.float()


def pinball(quantiles, target, known):
    """Mean pinball loss (Koenker and Bassett 1978) of `[n, rows, 9]` against `[n, rows]`, doubled: for the median, |error|."""
    levels = quantiles.new_tensor(LEVELS)
    error = target[..., None] - quantiles
    each = torch.maximum(levels * error, (levels - 1.0) * error).mean(-1)
    return 2.0 * (each * known).sum() / (known > 0).sum().clamp(min=1.0)


def loss(quantiles, target, claimed):
    """Pinball loss plus a small Huber loss on the median, which keeps it near the mean (RMSE is what users see)."""
    target, known = limited(target)
    counts = importance(claimed)
    huber = torch.nn.functional.huber_loss(quantiles[..., MEDIAN] * counts, target * counts, reduction="none")
    return pinball(quantiles, target, known * counts) + HUBER_SHARE * (huber * known).sum() / known.sum().clamp(min=1.0)


def skill(quantiles, target, expected, claimed):
    """Per row: RMSE and mean absolute error of the median over those of what the classical experts `expected`."""
    target, known = limited(target)
    known = known * importance(claimed)
    error, base = ((said - target) * known for said in (quantiles[..., MEDIAN], expected))
    return (error.square().sum(0) / base.square().sum(0)).sqrt(), error.abs().sum(0) / base.abs().sum(0)


def coverage(quantiles, target):
    """Share of targets below each quantile, `[rows, 9]`."""
    known = torch.isfinite(target)[..., None]
    return ((target[..., None] <= quantiles) & known).sum(0) / known.sum(0)
