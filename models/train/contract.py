"""The tensors that the models share with the worker (chronotick-host/src/worker/tensors.rs is the other side).

All inputs are float32 and relative to the line of the filter that asks (offset and rate at the origin):

    near   context [1, 2, 256]   fine rates / scale, mask
    far    context [1, 9, 128]   for each of the fine, middle and coarse grid: rate / scale, temperature in degrees
                                 Celsius minus the newest, mask of the rate
    both   scalars [1, 14]       ln(rate deviation / scale), ln(offset deviation / (scale * step)), both clipped to
                                 +-10; share of valid cells; 1 if there is any temperature; what the classical experts
                                 expect at each of OUTLOOK_STEPS in the output's units there, clipped to +-16; the
                                 logarithm of its claimed deviation in the same units, clipped to +-10
    near   quantiles [1, 64, 9], far quantiles [1, 16, 9]

`scale` is the RMS of all valid relative rates that the model reads. An output of 1 in row k means
sqrt((scale * h)^2 + offset_deviation^2) seconds beyond the line, with h = (k + 1) * stride * step.
"""

from dataclasses import dataclass

LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
MEDIAN = 4
OUTLOOK_STEPS = (1.0, 4.0, 16.0, 64.0, 225.0)
# Where among the scalars the outlook and its deviations are.
OUTLOOK = slice(4, 4 + len(OUTLOOK_STEPS))
OUTLOOK_LOGS = slice(4 + len(OUTLOOK_STEPS), 4 + 2 * len(OUTLOOK_STEPS))
SCALARS = 4 + 2 * len(OUTLOOK_STEPS)
MAX_LOG = 10.0
MAX_UNITS = 16.0


@dataclass(frozen=True)
class Shape:
    """What one model reads and writes."""

    channels: int
    cells: int
    rows: int
    stride: int
    rate_channels: tuple[int, ...]
    temperature_channels: tuple[int, ...]
    mask_channels: tuple[int, ...]


NEAR = Shape(2, 256, 64, 1, (0,), (), (1,))
FAR = Shape(9, 128, 16, 16, (0, 3, 6), (1, 4, 7), (2, 5, 8))
SHAPES = {"near": NEAR, "far": FAR}
