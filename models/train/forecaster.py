"""Builds, saves and loads the two forecasters."""

import argparse
import os
import pathlib
from contextlib import contextmanager

import torch
from torch import nn

from chronos_bolt import ChronosBolt
from layers import Expected, ascending
from tiny_time_mixer import TinyTimeMixer

NETWORKS = {"near": ChronosBolt, "far": TinyTimeMixer}


class Forecaster(nn.Module):
    """A network with its quantiles in order: `context`, `scalars` -> `quantiles` of contract.py."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.expected = Expected(network.shape)

    def forward(self, context, scalars):
        return ascending(self.network(context, scalars), self.expected(scalars), self.expected.claimed(scalars))


def build(name, **config):
    """A new forecaster."""
    return Forecaster(NETWORKS[name](**config))


def place(text):
    """A path that a file can be written to, known before anything is computed."""
    path = pathlib.Path(text)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: has to be a file in a folder that is there and can be written to")
    return path


@contextmanager
def replacing(path):
    """A name beside `path` to write to. The file takes the place of `path` at the end, and goes when anything fails."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield fresh
        os.replace(fresh, path)
    except OSError as error:
        raise SystemExit(f"{path}: not written: {error}")
    finally:
        fresh.unlink(missing_ok=True)


def save(path, name, model, record):
    """Writes weights, architecture and `record` (a JSON-like dict of how it was trained)."""
    kept = {"model": name, "config": model.network.config, "weights": model.network.state_dict(), "record": record}
    with replacing(path) as fresh, open(fresh, "wb") as file:
        torch.save(kept, file)


def load(path, name=None):
    """The forecaster in evaluation mode and its record. Only plain tensors and containers are unpickled."""
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        model = build(kept["model"], **kept["config"])
        model.network.load_state_dict(kept["weights"])
        record = dict(kept["record"])
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}: give a checkpoint that train.py wrote")
    except Exception:  # What is not a checkpoint fails in many ways.
        raise SystemExit(f"{path}: not a checkpoint that this train.py wrote, or cut short")
    if name not in (None, kept["model"]):
        raise SystemExit(f"{path}: a {kept['model']} model, not a {name} one")
    return model.eval(), record


def parameters(model):
    """Number of trained values."""
    return sum(p.numel() for p in model.parameters())
