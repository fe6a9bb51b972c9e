"""Builds, saves and loads the two forecasters."""

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


def save(path, name, model, record):
    """Writes weights, architecture and `record` (a JSON-like dict of how it was trained)."""
    torch.save({"model": name, "config": model.network.config, "weights": model.network.state_dict(), "record": record}, path)


def load(path):
    """The forecaster in evaluation mode and its record. Only plain tensors and containers are unpickled."""
    kept = torch.load(path, map_location="cpu", weights_only=True)
    model = build(kept["model"], **kept["config"])
    model.network.load_state_dict(kept["weights"])
    return model.eval(), kept["record"]


def parameters(model):
    """Number of trained values."""
    return sum(p.numel() for p in model.parameters())
