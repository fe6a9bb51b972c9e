"""Building blocks whose ONNX form runs fast in tract: plain arithmetic, no Softmax, no LayerNorm, no unfold."""

import torch
from torch import nn

from contract import LEVELS, MEDIAN

EXP_LIMIT = 30.0
WIDTH_FLOOR = 1e-4
MEDIAN_LIMIT = 16.0


def soft_weights(logits, dim=-1, mask=None):
    """Softmax as exp, sum and reciprocal. Logits are limited instead of shifted by their maximum; `mask` (1 or 0) multiplies."""
    e = torch.exp(torch.clamp(logits, -EXP_LIMIT, EXP_LIMIT))
    if mask is not None:
        e = e * mask
    return e * torch.reciprocal(e.sum(dim, keepdim=True))


class RmsNorm(nn.Module):
    """Root-mean-square normalisation over the last axis (Zhang and Sennrich 2019), as in T5."""

    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.reciprocal(torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)) * self.gain


class ResidualBlock(nn.Module):
    """One hidden layer beside a linear skip: the patch embedding and the head of Chronos-Bolt."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.output = nn.Linear(hidden, outputs)
        self.skip = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.output(torch.relu(self.hidden(x))) + self.skip(x)


def softplus(x):
    """ln(1 + e^x) without overflow, in operators that every runtime has."""
    return torch.relu(x) + torch.log(1.0 + torch.exp(-torch.abs(x)))


def ascending(raw):
    """`[..., 9]` free numbers to quantiles that ascend by construction: the median plus cumulated positive widths.

    Slot MEDIAN is the median; slots below and above it are the widths towards the neighbour nearer to the median. The
    sums are written as single additions, which keeps the order in floating point too.
    """
    widths = softplus(raw) + WIDTH_FLOOR
    columns = [None] * len(LEVELS)
    columns[MEDIAN] = torch.clamp(raw[..., MEDIAN], -MEDIAN_LIMIT, MEDIAN_LIMIT)
    for i in range(MEDIAN + 1, len(LEVELS)):
        columns[i] = columns[i - 1] + widths[..., i]
    for i in range(MEDIAN - 1, -1, -1):
        columns[i] = columns[i + 1] - widths[..., i]
    return torch.stack(columns, -1)
