"""What training minimises and what cards report. Targets that are NaN (the truth ended) do not count."""

import torch

from contract import LEVELS, MEDIAN

HUBER_SHARE = 0.15
# Up to so many claims the median is drawn to the mean, which is what squared errors ask for.
HUBER_LIMIT = 4.0
# Where the distance from the teachers turns linear.
TAUGHT_LIMIT = 0.5
# Beyond this many of the deviations that the classical experts claim, an error says only "far off": clocks on which they are lost
# would drown all others.
FAR_OFF = 12.0


def in_claims(values, expected, claimed):
    """How far `values` are beyond what the classical experts `expected`, in the deviations that they `claimed`: every clock counts alike."""
    return ((values - expected) / claimed).clamp(-FAR_OFF, FAR_OFF)


def missed(target, expected, claimed):
    """The same of the targets, 0 where unknown, and 1 or 0 for known."""
    known = torch.isfinite(target)
    return torch.where(known, in_claims(torch.where(known, target, 0.0), expected, claimed), 0.0), known.float()


def pinball(quantiles, target, known):
    """Mean pinball loss (Koenker and Bassett 1978) of `[n, rows, 9]` against `[n, rows]`, doubled: for the median, |error|."""
    levels = quantiles.new_tensor(LEVELS)
    error = target[..., None] - quantiles
    each = torch.maximum(levels * error, (levels - 1.0) * error).mean(-1)
    return 2.0 * (each * known).sum() / known.sum().clamp(min=1.0)


def loss(quantiles, target, expected, claimed):
    """Pinball loss plus a Huber loss on the median, which draws it to the mean (RMSE is what users see); in claims."""
    target, known = missed(target, expected, claimed)
    said = (quantiles - expected[..., None]) / claimed[..., None]
    huber = torch.nn.functional.huber_loss(said[..., MEDIAN], target, reduction="none", delta=HUBER_LIMIT)
    return pinball(said, target, known) + HUBER_SHARE * (huber * known).sum() / known.sum().clamp(min=1.0)


def apart(quantiles, wanted, claimed):
    """Huber loss between two sets of quantiles, in claims: what a network is taught by others."""
    return torch.nn.functional.huber_loss(quantiles / claimed[..., None], wanted / claimed[..., None], delta=TAUGHT_LIMIT)


def skill(quantiles, target, expected, claimed):
    """Per row: RMSE and mean absolute error of the median over those of what the classical experts `expected`."""
    target, known = missed(target, expected, claimed)
    error = (in_claims(quantiles[..., MEDIAN], expected, claimed) - target) * known
    base = target
    return (error.square().sum(0) / base.square().sum(0)).sqrt(), error.abs().sum(0) / base.abs().sum(0)


def coverage(quantiles, target):
    """Share of targets below each quantile, `[rows, 9]`."""
    known = torch.isfinite(target)[..., None]
    return ((target[..., None] <= quantiles) & known).sum(0) / known.sum(0)
