"""Changes to windows that keep them true, done on the tensors of the contract."""

import math

import torch

from contract import MAX_LOG, OUTLOOK, OUTLOOK_LOGS, OUTLOOK_STEPS

FLIP_TEMPERATURE = 0.5
DROP_TEMPERATURE = 0.15
SHORTEN = 0.25
DROP_CELLS = 0.15


def uniform(generator, *shape):
    """Between 0 and 1, where the generator lives."""
    return torch.rand(*shape, generator=generator, device=generator.device)


def flip_signs(shape, context, scalars, target, generator):
    """The rates of half the windows change sign with outlook and target, the temperatures of half on their own."""
    batch = context.shape[0]
    sign = torch.ones(batch, shape.channels, 1, device=context.device)
    rate = torch.randint(0, 2, (batch, 1, 1), generator=generator, device=generator.device) * 2.0 - 1.0
    sign[:, list(shape.rate_channels)] = rate
    if shape.temperature_channels:
        sign[:, list(shape.temperature_channels)] = (uniform(generator, batch, 1, 1) < FLIP_TEMPERATURE) * 2.0 - 1.0
    scalars = scalars.clone()
    scalars[:, OUTLOOK] = scalars[:, OUTLOOK] * rate[:, 0]
    return context * sign, scalars, target * rate[:, 0]


def drop_temperature(shape, context, scalars, generator):
    """Some windows lose their thermometer."""
    if not shape.temperature_channels:
        return context, scalars
    kept = (uniform(generator, context.shape[0]) >= DROP_TEMPERATURE).float()
    factor = torch.ones(context.shape[0], shape.channels, 1, device=context.device)
    factor[:, list(shape.temperature_channels)] = kept[:, None, None]
    scalars = scalars.clone()
    scalars[:, 3] = scalars[:, 3] * kept
    return context * factor, scalars


def drop_cells(shape, context, scalars, target, generator):
    """Some windows become younger clocks (old cells of every grid go) or lose single cells.

    The scale is the RMS of what is left, so rates, logarithms and the target's unit follow it: with r the ratio of new to
    old scale and p = offset deviation / (old scale * h), the unit changes by sqrt((r^2 + p^2) / (1 + p^2)).
    """
    batch = context.shape[0]
    rates, masks = list(shape.rate_channels), list(shape.mask_channels)
    device = context.device
    cell = torch.arange(shape.cells, device=device)[None, None]
    # The grids of the far model reach back 1, 4 and 16 steps a cell; a young clock's history ends at one instant.
    steps = torch.tensor([4.0**g for g in range(len(rates))], device=device)[None, :, None]
    longest = shape.cells * 4.0 ** (len(rates) - 1)
    age = torch.exp(uniform(generator, batch, 1, 1) * math.log(longest / 16.0)) * 16.0
    age = torch.where(uniform(generator, batch, 1, 1) < SHORTEN, age, longest)
    young = ((shape.cells - cell) * steps <= age).float()
    share = uniform(generator, batch, 1, 1) * 0.6
    share = torch.where(uniform(generator, batch, 1, 1) < DROP_CELLS, share, 0.0)
    holes = (uniform(generator, batch, len(masks), shape.cells) >= share).float()
    mask = context[:, masks] * young * holes
    count = mask.sum((1, 2))
    mean_square = (context[:, rates].square() * mask).sum((1, 2)) / count.clamp(min=1.0)
    usable = (count >= 8) & (mean_square > 1e-6)
    mask = torch.where(usable[:, None, None], mask, context[:, masks])
    ratio = torch.where(usable, mean_square.sqrt(), 1.0)
    context = context.clone()
    context[:, rates] = context[:, rates] * mask / ratio[:, None, None]
    context[:, masks] = mask
    horizon = (torch.arange(shape.rows, device=device) + 1.0) * shape.stride

    def rescaled(steps):
        p = torch.exp(scalars[:, 1:2]) / steps
        return torch.sqrt((1.0 + p.square()) / (ratio[:, None].square() + p.square()))

    outlook = rescaled(torch.tensor(OUTLOOK_STEPS, device=device))
    logs = (scalars[:, :2] - torch.log(ratio)[:, None]).clamp(-MAX_LOG, MAX_LOG)
    claims = (scalars[:, OUTLOOK_LOGS] + torch.log(outlook)).clamp(-MAX_LOG, MAX_LOG)
    scalars = torch.cat([logs, mask.mean((1, 2))[:, None], scalars[:, 3:4], scalars[:, OUTLOOK] * outlook, claims], 1)
    return context, scalars, target * rescaled(horizon)


def augment(shape, context, scalars, target, generator):
    """One random change of each kind."""
    context, scalars, target = flip_signs(shape, context, scalars, target, generator)
    context, scalars = drop_temperature(shape, context, scalars, generator)
    return drop_cells(shape, context, scalars, target, generator)
