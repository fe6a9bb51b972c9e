"""Turns a local snapshot of an official checkpoint into ONNX that ChronoTick's configuration accepts.

usage: python export_pretrained.py SNAPSHOT OUT
       python export_pretrained.py --random bolt-tiny|bolt-mini|bolt-small|ttm-r2 OUT     (weights of chance: for tests)

SNAPSHOT is a folder with config.json and weights of chronos-bolt-tiny, -mini, -small (becomes the near model) or
granite-timeseries-ttm-r2 (becomes the far model); nothing is downloaded. OUT/chronotick-NAME.onnx and OUT/fixtures are
written and checked against PyTorch. Point `models.dir` at OUT; the parity test of the Rust side runs with
`CHRONOTICK_PARITY=$PWD/OUT cargo test -p chronotick-tests --test model_parity answers`.

The official models forecast a series; ChronoTick asks for the offset beyond a line. The adapters therefore feed the
relative rates, sum the forecast rates over the horizon and divide by the unit of the contract. Quantiles of the sum are
sums of quantiles, which is exact when a clock that runs fast keeps running fast and too wide otherwise. Official levels
are 0.1 to 0.9: the outer ones are extrapolated as a normal distribution's. TTM forecasts points: its spread is the RMS of
the history. The fusion calibrates either.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parent / "train"))
from contract import FAR, LEVELS, MEDIAN, NEAR  # noqa: E402
from export import export  # noqa: E402
from fixtures import write  # noqa: E402

# Quantiles of the standard normal distribution at LEVELS.
NORMAL = (-1.959964, -1.644854, -1.281552, -0.674490, 0.0, 0.674490, 1.281552, 1.644854, 1.959964)
PACKAGES = {"chronos": "chronos-forecasting", "tsfm_public": "granite-tsfm"}
SIZES = {
    "bolt-tiny": dict(d_model=256, d_kv=64, d_ff=1024, num_layers=4, num_decoder_layers=4, num_heads=4),
    "bolt-mini": dict(d_model=384, d_kv=64, d_ff=1536, num_layers=4, num_decoder_layers=4, num_heads=8),
    "bolt-small": dict(d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_decoder_layers=6, num_heads=8),
}


def levels_from(official):
    """Matrix `[9, official]` from the model's quantiles to LEVELS: interpolated inside, normal tails outside."""
    matrix = np.zeros((len(LEVELS), len(official)))
    middle = official.index(0.5)
    for i, level in enumerate(LEVELS):
        edge = 0 if level < official[0] else len(official) - 1
        if official[0] <= level <= official[-1]:
            above = next(j for j, q in enumerate(official) if q >= level - 1e-9)
            below = above if abs(official[above] - level) < 1e-9 else above - 1
            share = 0.0 if above == below else (level - official[below]) / (official[above] - official[below])
            matrix[i, below] += 1.0 - share
            matrix[i, above] += share
        else:
            # Beyond the outermost official level, in proportion to the normal distribution's quantiles.
            stretch = torch.special.ndtri(torch.tensor(level)) / torch.special.ndtri(torch.tensor(official[edge]))
            matrix[i, edge] += float(stretch)
            matrix[i, middle] += 1.0 - float(stretch)
    return torch.tensor(matrix, dtype=torch.float32)


def cumulate(median, widths):
    """Ascending quantiles `[..., 9]` from a median and non-negative widths `[..., 9]` (slot MEDIAN unused)."""
    columns = [None] * len(LEVELS)
    columns[MEDIAN] = median
    for i in range(MEDIAN + 1, len(LEVELS)):
        columns[i] = columns[i - 1] + widths[..., i]
    for i in range(MEDIAN - 1, -1, -1):
        columns[i] = columns[i + 1] - widths[..., i]
    return torch.stack(columns, -1)


class Bolt(nn.Module):
    """chronos-bolt as a near model. Its own forward uses nanmean, unfold and NaN; the same is written here with masks."""

    shape = NEAR

    def __init__(self, model):
        super().__init__()
        self.model = model
        official = model.chronos_config
        if official.prediction_length < NEAR.rows or official.input_patch_size != official.input_patch_stride:
            raise SystemExit("not a chronos-bolt of 64 steps and plain patches")
        self.patch = official.input_patch_size
        self.register_buffer("levels", levels_from([round(q, 6) for q in official.quantiles]))
        self.register_buffer("sums", torch.tril(torch.ones(NEAR.rows, NEAR.rows)))
        self.register_buffer("steps", torch.arange(NEAR.rows) + 1.0)

    def token(self, index, batch):
        return self.model.shared.weight[index].reshape(1, 1, -1).expand(batch, 1, -1)

    def rates(self, values, mask):
        """Quantiles `[b, official, prediction length]` of a series `[b, n]`, 0 where `mask` is 0."""
        count = torch.clamp(mask.sum(-1, keepdim=True), min=1.0)
        mean = (values * mask).sum(-1, keepdim=True) / count
        spread = torch.sqrt(((values - mean).square() * mask).sum(-1, keepdim=True) / count)
        spread = torch.where(spread == 0.0, torch.full_like(spread, 1e-5), spread)
        batch, patches = values.shape[0], values.shape[1] // self.patch
        cells = ((values - mean) / spread * mask).reshape(batch, patches, self.patch)
        seen = mask.reshape(batch, patches, self.patch)
        tokens = self.model.input_patch_embedding(torch.cat([cells, seen], -1))
        attended = (seen.sum(-1) > 0).to(values.dtype)
        if self.model.chronos_config.use_reg_token:
            tokens = torch.cat([tokens, self.token(self.model.config.reg_token_id, batch)], 1)
            attended = torch.cat([attended, torch.ones(batch, 1)], 1)
        hidden = self.model.encoder(attention_mask=attended, inputs_embeds=tokens)[0]
        start = self.token(self.model.config.decoder_start_token_id, batch)
        state = self.model.decoder(inputs_embeds=start, encoder_hidden_states=hidden, encoder_attention_mask=attended,
                                   use_cache=False)[0]
        answer = self.model.output_patch_embedding(state).reshape(batch, self.model.num_quantiles, -1)
        return answer * spread[..., None] + mean[..., None]

    def forward(self, context, scalars):
        rates = self.rates(context[:, 0], context[:, 1])[..., :NEAR.rows]
        ours = torch.matmul(self.levels, rates)
        total = torch.matmul(self.sums, ours.transpose(1, 2))
        unit = torch.sqrt(self.steps.square() + torch.exp(2.0 * scalars[:, 1:2]))
        total = total / unit[..., None]
        steps = torch.relu(total[..., 1:] - total[..., :-1])
        widths = torch.cat([steps[..., :MEDIAN], torch.zeros_like(steps[..., :1]), steps[..., MEDIAN:]], -1)
        return cumulate(total[..., MEDIAN], widths)


class Patches(nn.Module):
    """Patches side by side as a reshape, `[b, n, c]` -> `[b, c, patches, length]`, where upstream unfolds."""

    def __init__(self, length):
        super().__init__()
        self.length = length

    def forward(self, x):
        return x.reshape(x.shape[0], -1, self.length, x.shape[2]).permute(0, 3, 1, 2)


class Ttm(nn.Module):
    """granite-timeseries-ttm-r2 as a far model: the coarse and the middle grid become one series of 4-step cells."""

    shape = FAR
    CELL = 4

    def __init__(self, model):
        super().__init__()
        self.model = model
        if model.config.prediction_length < FAR.rows * FAR.stride // self.CELL:
            raise SystemExit("the model forecasts fewer than 64 steps: take a 512-96 or longer revision")
        self.context = model.config.context_length
        length = model.config.patch_length
        if model.config.patch_stride != length or self.context % length:
            raise SystemExit("the model's patches overlap: not a TTM-r2")
        model.backbone.patching = Patches(length)
        self.register_buffer("ends", (torch.arange(FAR.rows) + 1.0) * FAR.stride)
        cell = torch.arange(FAR.rows * FAR.stride // self.CELL)
        self.register_buffer("sums", (cell[None] < (self.ends / self.CELL)[:, None]).float() * self.CELL)
        self.register_buffer("spread", torch.tensor(NORMAL))

    def forward(self, context, scalars):
        batch = context.shape[0]
        spread_out = lambda x: x[:, :, None].expand(batch, FAR.cells, self.CELL).reshape(batch, -1)
        values, mask = spread_out(context[:, 6]), spread_out(context[:, 8])
        fresh = context[:, 5]
        recent = context[:, 3] * fresh + values[:, -FAR.cells:] * (1.0 - fresh)
        values = torch.cat([values[:, :-FAR.cells], recent], 1)
        mask = torch.cat([mask[:, :-FAR.cells], torch.maximum(fresh, mask[:, -FAR.cells:])], 1)
        missing = self.context - values.shape[1]
        if missing > 0:
            empty = torch.zeros(batch, missing)
            values, mask = torch.cat([empty, values], 1), torch.cat([empty, mask], 1)
        values, mask = values[:, -self.context:], mask[:, -self.context:]
        answer = self.model(past_values=values[..., None], past_observed_mask=mask[..., None], return_loss=False)
        rates = answer.prediction_outputs[:, :self.sums.shape[1], 0]
        unit = torch.sqrt(self.ends.square() + torch.exp(2.0 * scalars[:, 1:2]))
        median = torch.matmul(rates, self.sums.T) / unit
        return median[..., None] + self.spread


def random_model(name):
    """An official architecture with weights of chance, in its published size."""
    torch.manual_seed(1)
    if name in SIZES:
        from chronos.chronos_bolt import ChronosBoltModelForForecasting
        from transformers import T5Config

        config = T5Config(**SIZES[name], feed_forward_proj="relu", dropout_rate=0.1, initializer_factor=0.05,
                          pad_token_id=0, decoder_start_token_id=0, is_encoder_decoder=True, attn_implementation="eager")
        config.chronos_config = dict(context_length=2048, prediction_length=64, input_patch_size=16, input_patch_stride=16,
                                     quantiles=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], use_reg_token=True)
        return Bolt(ChronosBoltModelForForecasting(config).eval())
    from tsfm_public.models.tinytimemixer import TinyTimeMixerConfig, TinyTimeMixerForPrediction

    config = TinyTimeMixerConfig(context_length=512, prediction_length=96, patch_length=64, patch_stride=64, d_model=192,
                                 num_layers=2, adaptive_patching_levels=3, decoder_num_layers=2, decoder_d_model=128,
                                 expansion_factor=2, dropout=0.2, head_dropout=0.2, scaling="std", gated_attn=True,
                                 mode="common_channel", decoder_mode="common_channel")
    return Ttm(TinyTimeMixerForPrediction(config).eval())


def official_model(folder):
    """The checkpoint in `folder`, behind its adapter."""
    try:
        config = dict(json.loads((folder / "config.json").read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise SystemExit(f"{folder}: no config.json that can be read ({error}): give a folder with the official config.json and weights")
    if "chronos_config" in config:
        from chronos.chronos_bolt import ChronosBoltModelForForecasting

        return Bolt(ChronosBoltModelForForecasting.from_pretrained(folder, local_files_only=True, attn_implementation="eager").eval())
    if config.get("model_type") == "tinytimemixer":
        from tsfm_public.models.tinytimemixer import TinyTimeMixerForPrediction

        return Ttm(TinyTimeMixerForPrediction.from_pretrained(folder, local_files_only=True).eval())
    raise SystemExit(f"{folder}: neither a chronos-bolt nor a TTM checkpoint")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("snapshot", nargs="?", type=pathlib.Path)
    source.add_argument("--random", choices=[*SIZES, "ttm-r2"])
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    try:
        model = (random_model(args.random) if args.random else official_model(args.snapshot)).eval()
        args.out.mkdir(parents=True, exist_ok=True)
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed: pip install {PACKAGES.get(error.name, error.name)}")
    except Exception as error:  # The packages refuse what is not theirs in many ways.
        raise SystemExit(f"{args.snapshot or args.random}: cannot be used: {' '.join(str(error).split())}")
    name = {NEAR: "near", FAR: "far"}[model.shape]
    export(model, model.shape, args.out / f"chronotick-{name}.onnx")
    write(name, model.shape, model, args.out / "fixtures")


if __name__ == "__main__":
    main()
