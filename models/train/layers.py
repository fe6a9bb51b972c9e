"""Building blocks whose ONNX form runs fast in tract: plain arithmetic, no Softmax, no LayerNorm, no unfold."""

import torch
from torch import nn

from contract import LEVELS, MEDIAN, OUTLOOK, OUTLOOK_LOGS, OUTLOOK_STEPS

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


def ascending(raw, expected, claimed):
    """`[..., 9]` free numbers to quantiles that ascend by construction: the median plus cumulated positive widths.

    Slot MEDIAN is how far the median is beyond what is `expected`, `[...]`; slots below and above it are the widths towards the neighbour nearer to the
    median. All are in units of the `claimed` deviation, `[...]`: where the experts are sure, a network cannot shout. The sums are written as
    single additions, which keeps the order in floating point too.
    """
    widths = (softplus(raw) + WIDTH_FLOOR) * claimed[..., None]
    columns = [None] * len(LEVELS)
    columns[MEDIAN] = torch.clamp(raw[..., MEDIAN] * claimed + expected, -MEDIAN_LIMIT, MEDIAN_LIMIT)
    for i in range(MEDIAN + 1, len(LEVELS)):
        columns[i] = columns[i - 1] + widths[..., i]
    for i in range(MEDIAN - 1, -1, -1):
        columns[i] = columns[i + 1] - widths[..., i]
    return torch.stack(columns, -1)


class Expected(nn.Module):
    """What the classical experts expect in each row, in the row's units: linear between the steps of the outlook, and beyond.

    A network adds to it, so that one that has learnt nothing says what they say.
    """

    def __init__(self, shape):
        super().__init__()
        self.register_buffer("outlook", torch.tensor(OUTLOOK_STEPS), persistent=False)
        self.register_buffer("steps", (torch.arange(shape.rows) + 1.0) * shape.stride, persistent=False)
        between = torch.zeros(len(OUTLOOK_STEPS), shape.rows)
        for row, step in enumerate(self.steps.tolist()):
            i = next((i for i in range(len(OUTLOOK_STEPS) - 2) if step <= OUTLOOK_STEPS[i + 1]), len(OUTLOOK_STEPS) - 2)
            share = max(0.0, (step - OUTLOOK_STEPS[i]) / (OUTLOOK_STEPS[i + 1] - OUTLOOK_STEPS[i]))
            between[i, row], between[i + 1, row] = 1.0 - share, share
        self.register_buffer("between", between, persistent=False)

    def forward(self, scalars):
        """`scalars [b, SCALARS]` -> `[b, rows]`."""
        own = torch.exp(2.0 * scalars[:, 1:2])
        seconds = scalars[:, OUTLOOK] * torch.sqrt(self.outlook.square() + own)
        return torch.matmul(seconds, self.between) * torch.reciprocal(torch.sqrt(self.steps.square() + own))

    def claimed(self, scalars):
        """The standard deviation that they claim in each row, in the row's units."""
        return torch.exp(torch.matmul(scalars[:, OUTLOOK_LOGS], self.between))
