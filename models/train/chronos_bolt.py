"""The near forecaster: the Chronos-Bolt architecture, written from its description and the T5 paper.

Ansari et al., "Chronos: Learning the Language of Time Series" (2024) and its direct multi-step successor Chronos-Bolt:
the context is cut into patches, each patch with its mask is embedded by a residual block, a T5 encoder (Raffel et al.
2020: RMS norm before each sublayer, no biases, relative position bias shared by the layers, unscaled dot products)
reads the patches, a decoder of one token attends to them, and a residual block turns its state into all quantiles of
all steps at once. A register token ends the sequence; here it carries the scalars and is never masked.
"""

import math

import torch
from torch import nn

from contract import LEVELS, NEAR, SCALARS
from layers import ResidualBlock, RmsNorm, soft_weights

BUCKETS = 32
MAX_DISTANCE = 128


def distance_buckets(tokens):
    """T5's bidirectional relative-position buckets `[tokens, tokens]`: exact when near, logarithmic when far."""
    position = torch.arange(tokens)
    distance = position[None, :] - position[:, None]
    half, exact = BUCKETS // 2, BUCKETS // 4
    size = distance.abs()
    far = exact + (torch.log(size.clamp(min=1) / exact) / math.log(MAX_DISTANCE / exact) * (half - exact)).long()
    return torch.where(distance > 0, half, 0) + torch.where(size < exact, size, far.clamp(max=half - 1))


class Attention(nn.Module):
    """Multi-head attention in T5's manner."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        nn.init.normal_(self.query.weight, std=(width * width / heads) ** -0.5)
        nn.init.normal_(self.key.weight, std=width**-0.5)

    def split(self, x):
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, memory, mask, bias=None):
        """`mask` is 1 for the tokens of `memory` that may be read, `[batch, 1, 1, tokens]`."""
        logits = torch.matmul(self.split(self.query(x)), self.split(self.key(memory)).transpose(2, 3))
        if bias is not None:
            logits = logits + bias
        mixed = torch.matmul(soft_weights(logits, mask=mask), self.split(self.value(memory)))
        return self.output(mixed.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))


class FeedForward(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


class EncoderLayer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norms = nn.ModuleList(RmsNorm(width) for _ in range(2))
        self.attention = Attention(width, heads)
        self.feed_forward = FeedForward(width, hidden)

    def forward(self, x, mask, bias):
        y = self.norms[0](x)
        x = x + self.attention(y, y, mask, bias)
        return x + self.feed_forward(self.norms[1](x))


class DecoderLayer(nn.Module):
    """Cross-attention and feed-forward for a single token (self-attention of one token is a linear map: left out)."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norms = nn.ModuleList(RmsNorm(width) for _ in range(2))
        self.attention = Attention(width, heads)
        self.feed_forward = FeedForward(width, hidden)

    def forward(self, x, memory, mask):
        x = x + self.attention(self.norms[0](x), memory, mask)
        return x + self.feed_forward(self.norms[1](x))


class ChronosBolt(nn.Module):
    """`context [b, 2, 256]`, `scalars [b, 14]` -> raw head values `[b, 64, 9]` (see layers.ascending)."""

    shape = NEAR

    def __init__(self, patch=16, width=96, heads=4, hidden=256, encoder_layers=2, decoder_layers=1, head=96):
        super().__init__()
        self.config = dict(patch=patch, width=width, heads=heads, hidden=hidden, encoder_layers=encoder_layers,
                           decoder_layers=decoder_layers, head=head)
        self.patch = patch
        self.patches = NEAR.cells // patch
        self.embed = ResidualBlock(2 * patch, hidden, width)
        self.register_token = ResidualBlock(SCALARS, width, width)
        self.position = nn.Parameter(torch.zeros(BUCKETS, heads))
        self.register_buffer("buckets", distance_buckets(self.patches + 1), persistent=False)
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, hidden) for _ in range(encoder_layers))
        self.encoder_norm = RmsNorm(width)
        self.start = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, hidden) for _ in range(decoder_layers))
        self.decoder_norm = RmsNorm(width)
        self.head = ResidualBlock(width, head, NEAR.rows * len(LEVELS))
        self.fixed_bias = None

    def freeze(self):
        """Computes the position bias once, so that the exported graph holds it as a constant."""
        self.fixed_bias = self.position_bias().detach().clone()

    def position_bias(self):
        return self.position[self.buckets].permute(2, 0, 1)[None]

    def forward(self, context, scalars):
        batch = context.shape[0]
        cells = context.reshape(batch, 2, self.patches, self.patch).transpose(1, 2)
        seen = torch.clamp(cells[:, :, 1].sum(-1), 0.0, 1.0)
        tokens = self.embed(cells.reshape(batch, self.patches, 2 * self.patch))
        register = self.register_token(scalars * 0.3)[:, None]
        x = torch.cat([tokens, register], 1)
        mask = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)[:, None, None]
        bias = self.position_bias() if self.fixed_bias is None else self.fixed_bias
        for layer in self.encoder:
            x = layer(x, mask, bias)
        x = self.encoder_norm(x)
        # The register's token is the query's starting point, so that what the filter says of itself reaches the head.
        y = self.start + register
        for layer in self.decoder:
            y = layer(y, x, mask)
        return self.head(self.decoder_norm(y)[:, 0]).reshape(batch, NEAR.rows, len(LEVELS))

    def start_at(self, raw):
        """Starts the head at the raw values `[64, 9]` (the marginal distribution of the targets)."""
        self.head.output.weight.data.mul_(0.3)
        self.head.skip.weight.data.mul_(0.3)
        self.head.output.bias.data.zero_()
        self.head.skip.bias.data.copy_(raw.reshape(-1))
