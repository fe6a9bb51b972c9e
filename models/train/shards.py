"""Reads the windows that `chronotick training-set` writes."""

import json
import pathlib

import numpy as np
import torch

from contract import SCALARS, SHAPES


class Windows:
    """All windows of one model and split, in memory: `context`, `scalars`, `target` (in units of the contract)."""

    def __init__(self, folder, model, split):
        self.shape = SHAPES[model]
        parts = []
        self.origin = []
        for header_path in sorted(pathlib.Path(folder).glob(f"{model}-{split}-*.json")):
            header = json.loads(header_path.read_text())
            parts.append(self.read(header_path, header))
            self.origin.append(header.get("seed"))
            self.about = header.get("about", "")
        if not parts:
            raise SystemExit(f"{folder}: no {model}-{split}-*.json: write it with `chronotick training-set`")
        self.about = self.about or "simulated oscillators"
        self.context, self.scalars, self.target = (torch.from_numpy(np.concatenate(column)) for column in zip(*parts))
        self.world = torch.arange(len(self.target)) // 10

    def read(self, header_path, header):
        """`context [n, channels, cells]`, `scalars [n, 4]`, `target [n, rows]` of one shard."""
        width = self.shape.channels * self.shape.cells + SCALARS + self.shape.rows
        values = np.fromfile(header_path.with_suffix(".f32"), "<f4").reshape(-1, width)
        cut = self.shape.channels * self.shape.cells
        values = values[np.isfinite(values).all(1)]
        return (values[:, :cut].reshape(-1, self.shape.channels, self.shape.cells), values[:, cut:cut + SCALARS],
                values[:, cut + SCALARS:])

    def __len__(self):
        return len(self.target)

    def first(self, count):
        """Keeps about `count` windows, evenly spread over the shards."""
        kept = torch.arange(0, len(self), max(1, -(-len(self) // count)))
        self.context, self.scalars, self.target = self.context[kept], self.scalars[kept], self.target[kept]
        self.world = self.world[kept]
        return self

    def sample(self, count, generator):
        """`count` windows drawn with replacement."""
        index = torch.randint(len(self), (count,), generator=generator)
        return self.context[index], self.scalars[index], self.target[index]

    def batches(self, size):
        """All windows in order."""
        for i in range(0, len(self), size):
            yield self.context[i:i + size], self.scalars[i:i + size], self.target[i:i + size]
