"""Reads the windows that `chronotick training-set` writes."""

import json
import math
import pathlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from contract import SCALARS, SHAPES


READERS = 8


class Windows:
    """All windows of one model and split, in the memory of `device`: `context`, `scalars`, `target` (in the contract's units; NaN: unknown).

    `world` numbers the stretches that are taken as independent: the windows of a shard divided evenly among its worlds, in
    order (a shard does not say where one world ends). `most` ends the reading with the shard that holds that many worlds.
    """

    def __init__(self, folder, model, split, device="cpu", most=math.inf):
        self.shape = SHAPES[model]
        self.origin, numbers = [], []
        paths, stretches = [], []
        for path in sorted(pathlib.Path(folder).glob(f"{model}-{split}-*.json")):
            if sum(stretches) < most:
                paths.append(path)
                stretches.append(self.look(path))
        if not paths:
            raise SystemExit(f"{folder}: no {model}-{split}-*.json: write it with `chronotick training-set`")
        with ThreadPoolExecutor(READERS) as readers:
            parts = list(readers.map(lambda path: [part.to(device) for part in self.read(path)], paths))
        worlds = 0
        for count, (_, _, target) in zip(stretches, parts):
            numbers.append(worlds + torch.arange(len(target)) * count // max(1, len(target)))
            worlds += count
        self.context, self.scalars, self.target = (torch.cat(column) for column in zip(*parts))
        self.world = torch.cat(numbers)
        if not len(self):
            raise SystemExit(f"{folder}: no usable window in {model}-{split}-*.f32: simulate more worlds or record for longer")

    def look(self, path):
        """How many stretches one shard says that it holds; a shard that is not whole is refused before any is read."""
        row = {"context": [self.shape.channels, self.shape.cells], "scalars": [SCALARS], "target": [self.shape.rows]}
        try:
            header = json.loads(path.read_text())
            if header["row"] != row or header["dtype"] != "<f4":
                raise ValueError("other tensors than contract.py's")
            if path.with_suffix(".f32").stat().st_size != 4 * header["windows"] * sum(map(math.prod, row.values())):
                raise ValueError("its .f32 is not as long as it should be")
            self.origin.append({"seed": header["seed"], **header["origin"]})
            first, last = header["origin"].get("worlds", [0, 10])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise SystemExit(f"{path}: broken ({error}): write the set anew with `chronotick training-set`")
        return last - first

    def read(self, path):
        """`context [n, channels, cells]`, `scalars [n, SCALARS]`, `target [n, rows]` of one shard."""
        cut = self.shape.channels * self.shape.cells
        values = np.fromfile(path.with_suffix(".f32"), "<f4").reshape(-1, cut + SCALARS + self.shape.rows)
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
