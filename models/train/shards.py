"""Reads the windows that `chronotick training-set` writes."""

import json
import pathlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from contract import SCALARS, SHAPES


READERS = 8


class Windows:
    """All windows of one model and split, in the memory of `device`: `context`, `scalars`, `target` (in units of the contract, NaN: unknown).

    `world` numbers the stretches that are taken as independent: the windows of a shard divided evenly among its worlds, in
    order (a shard does not say where one world ends).
    """

    def __init__(self, folder, model, split, device="cpu"):
        self.shape = SHAPES[model]
        self.origin, numbers = [], []
        worlds = 0
        paths = sorted(pathlib.Path(folder).glob(f"{model}-{split}-*.json"))
        if not paths:
            raise SystemExit(f"{folder}: no {model}-{split}-*.json: write it with `chronotick training-set`")
        headers = [json.loads(path.read_text()) for path in paths]
        with ThreadPoolExecutor(READERS) as readers:
            parts = list(readers.map(lambda path, header: [part.to(device) for part in self.read(path, header)], paths, headers))
        for header, (_, _, target) in zip(headers, parts):
            first, last = header["origin"].get("worlds", [0, 10])
            numbers.append(worlds + torch.arange(len(target)) * (last - first) // max(1, len(target)))
            worlds += last - first
            self.origin.append({"seed": header["seed"], **header["origin"]})
        self.context, self.scalars, self.target = (torch.cat(column) for column in zip(*parts))
        self.world = torch.cat(numbers)

    def read(self, header_path, header):
        """`context [n, channels, cells]`, `scalars [n, 4]`, `target [n, rows]` of one shard."""
        row = {"context": [self.shape.channels, self.shape.cells], "scalars": [SCALARS], "target": [self.shape.rows]}
        if header["row"] != row or header["dtype"] != "<f4":
            raise SystemExit(f"{header_path}: other tensors than contract.py's: write it anew with `chronotick training-set`")
        cut = self.shape.channels * self.shape.cells
        values = np.fromfile(header_path.with_suffix(".f32"), "<f4").reshape(header["windows"], cut + SCALARS + self.shape.rows)
        usable = np.isfinite(values[:, :cut + SCALARS]).all(1) & np.isfinite(values[:, cut + SCALARS])
        values = torch.from_numpy(values[usable])
        return (values[:, :cut].reshape(-1, self.shape.channels, self.shape.cells), values[:, cut:cut + SCALARS],
                values[:, cut + SCALARS:])

    def __len__(self):
        return len(self.target)

    def describe(self):
        """One line for records and cards: seeds and worlds, or the traces."""
        traces = [origin["trace"] for origin in self.origin if "trace" in origin]
        if traces:
            return "recorded traces " + ", ".join(traces)
        seeds = sorted({origin["seed"] for origin in self.origin})
        worlds = sum(origin["worlds"][1] - origin["worlds"][0] for origin in self.origin)
        return f"{worlds} {self.origin[0]['kind']} worlds, seed {', '.join(map(str, seeds))}"

    def first(self, count):
        """Keeps about `count` windows, evenly spread over the shards."""
        kept = torch.arange(0, len(self), max(1, -(-len(self) // count)))
        self.context, self.scalars, self.target = self.context[kept], self.scalars[kept], self.target[kept]
        self.world = self.world[kept]
        return self

    def sample(self, count, generator):
        """`count` windows drawn with replacement."""
        index = torch.randint(len(self), (count,), generator=generator, device=generator.device)
        return self.context[index], self.scalars[index], self.target[index]

    def batches(self, size):
        """All windows in order."""
        for i in range(0, len(self), size):
            yield self.context[i:i + size], self.scalars[i:i + size], self.target[i:i + size]
