"""What training minimises and what cards report."""

import torch

from contract import LEVELS, MEDIAN

HUBER_SHARE = 0.15
# Beyond this many units a target says only "far away": windows in which the filter was lost would drown all others.
TARGET_LIMIT = 8.0


def pinball(quantiles, target):
    """Mean pinball loss (Koenker and Bassett 1978) of `[..., 9]` against `[...]`, doubled: at the median the absolute error."""
    levels = quantiles.new_tensor(LEVELS)
    error = target[..., None] - quantiles
    return 2.0 * torch.maximum(levels * error, (levels - 1.0) * error).mean()


def loss(quantiles, target):
    """Pinball loss plus a small Huber loss on the median, which keeps it near the mean (RMSE is what users see)."""
    target = target.clamp(-TARGET_LIMIT, TARGET_LIMIT)
    huber = torch.nn.functional.huber_loss(quantiles[..., MEDIAN], target)
    return pinball(quantiles, target) + HUBER_SHARE * huber


def skill(quantiles, target):
    """Per row: RMSE and mean absolute error of the median over those of zero ("follow the filter's line"), targets limited."""
    target = target.clamp(-TARGET_LIMIT, TARGET_LIMIT)
    error = quantiles[..., MEDIAN] - target
    rmse = (error.square().mean(0) / target.square().mean(0)).sqrt()
    return rmse, error.abs().mean(0) / target.abs().mean(0)


def coverage(quantiles, target):
    """Share of targets below each quantile, `[rows, 9]`."""
    return (target[..., None] <= quantiles).float().mean(0)
