"""The far forecaster: the TinyTimeMixer architecture, written from its description and the TSMixer paper.

Ekambaram et al., "Tiny Time Mixers" (2024) over "TSMixer" (2023): patches of each series are mixed along time and along
features by small gated perceptrons; *adaptive patching* reshapes neighbouring features into more, shorter patches in the
early levels; the backbone treats each series alone, the decoder mixes them; a *resolution prefix* tells the shared
backbone which sampling rate it reads. Here the series are the three grids. Temperature is the exogenous channel: each
patch is embedded from its rates, temperatures and mask together, because what matters is their common movement.
"""

import torch
from torch import nn

from contract import FAR, LEVELS, SCALARS
from layers import ResidualBlock, RmsNorm, soft_weights

GRIDS = 3
TEMPERATURE_UNIT = 5.0
TEMPERATURE_LIMIT = 10.0


class GatedMlp(nn.Module):
    """norm -> two-layer perceptron along one axis -> gated attention -> residual. `x` is `[batch, grids, patches, width]`.

    The mixed axis is brought last: tract multiplies `x W` much faster than `W x`.
    """

    def __init__(self, width, mixed, expansion, along_patches):
        super().__init__()
        self.mixed = mixed
        self.along_patches = along_patches
        self.norm = RmsNorm(width)
        self.up = nn.Linear(mixed, expansion * mixed)
        self.down = nn.Linear(expansion * mixed, mixed)
        self.gate = nn.Linear(mixed, mixed)

    def forward(self, x):
        y = self.norm(x)
        if self.along_patches:
            y = y.transpose(2, 3)
        y = self.down(torch.relu(self.up(y)))
        y = y * soft_weights(self.gate(y)) * float(self.mixed)
        return x + (y.transpose(2, 3) if self.along_patches else y)


class MixerLayer(nn.Sequential):
    """One TSMixer layer: patches, then features."""

    def __init__(self, patches, width, expansion):
        super().__init__(GatedMlp(width, patches, expansion, True), GatedMlp(width, width, expansion, False))


class TinyTimeMixer(nn.Module):
    """`context [b, 9, 128]`, `scalars [b, 14]` -> raw head values `[b, 16, 9]` (see layers.ascending)."""

    shape = FAR

    def __init__(self, patch=16, width=128, levels=3, layers=1, decoder_layers=2, decoder_width=32, expansion=2, head=128):
        super().__init__()
        self.config = dict(patch=patch, width=width, levels=levels, layers=layers, decoder_layers=decoder_layers,
                           decoder_width=decoder_width, expansion=expansion, head=head)
        self.patch, self.width = patch, width
        self.patches = FAR.cells // patch
        self.embed = ResidualBlock(3 * patch, width, width)
        self.resolution = nn.Parameter(torch.randn(1, GRIDS, 1, width) * 0.1)
        self.position = nn.Parameter(torch.randn(1, 1, self.patches, width) * 0.02)
        self.scalars = ResidualBlock(SCALARS, width, width)
        self.factors = [2**level for level in reversed(range(levels))]
        self.levels = nn.ModuleList(
            nn.Sequential(*(MixerLayer(self.patches * f, width // f, expansion) for _ in range(layers)))
            for f in self.factors
        )
        self.adapter = nn.Linear(width, decoder_width)
        self.decoder = nn.Sequential(
            *(MixerLayer(self.patches, GRIDS * decoder_width, 1) for _ in range(decoder_layers))
        )
        self.head = ResidualBlock(GRIDS * self.patches * decoder_width + width, head, FAR.rows * len(LEVELS))

    def freeze(self):
        """Nothing to fix before the export."""

    def forward(self, context, scalars):
        batch = context.shape[0]
        cells = context.reshape(batch, GRIDS, 3, self.patches, self.patch)
        temperature = torch.clamp(cells[:, :, 1:2] * (1.0 / TEMPERATURE_UNIT), -TEMPERATURE_LIMIT, TEMPERATURE_LIMIT)
        cells = torch.cat([cells[:, :, 0:1], temperature, cells[:, :, 2:3]], 2)
        x = self.embed(cells.transpose(2, 3).reshape(batch, GRIDS, self.patches, 3 * self.patch))
        known = self.scalars(scalars * 0.3)
        x = x + self.resolution + self.position + known[:, None, None]
        for factor, level in zip(self.factors, self.levels):
            shape = (batch, GRIDS, self.patches * factor, self.width // factor)
            x = level(x.reshape(shape)).reshape(batch, GRIDS, self.patches, self.width)
        x = self.adapter(x).transpose(1, 2).reshape(batch, 1, self.patches, -1)
        x = self.decoder(x)
        flat = torch.cat([x.reshape(batch, -1), known], 1)
        return self.head(flat).reshape(batch, FAR.rows, len(LEVELS))

    def start_at(self, raw):
        """Starts the head at the raw values `[16, 9]` (the marginal distribution of the targets)."""
        self.head.output.weight.data.mul_(0.3)
        self.head.skip.weight.data.mul_(0.3)
        self.head.output.bias.data.zero_()
        self.head.skip.bias.data.copy_(raw.reshape(-1))
