"""Trains one forecaster on the shards that `chronotick training-set` wrote.

usage: python train.py near SHARDS --steps 6000 --out near.pt
       torchrun --nproc-per-node 4 train.py far SHARDS --steps 20000 --out far.pt

Deterministic for one seed, one process and one thread. A GPU is used when there is one. The weights kept are an
exponential average of the trained ones, taken when its loss on the held-out worlds was lowest.
"""

import argparse
import copy
import json
import math
import os
import pathlib
import time

import torch
from torch import distributed

from augment import augment
from contract import LEVELS, MEDIAN, SHAPES
from forecaster import build, load, parameters, save
from layers import WIDTH_FLOOR, Expected
from losses import loss, missed, skill
from shards import Windows

PATIENCE = 12


def marginal(windows, outlook):
    """Raw head values `[rows, 9]` that give every window the quantiles of all that the experts missed, symmetric about zero."""
    size, known = missed(windows.target, outlook(windows.scalars), outlook.claimed(windows.scalars))
    size = size[known.bool().all(1)].abs()
    raw = torch.zeros(size.shape[1], len(LEVELS))
    below = torch.zeros(size.shape[1])
    for i in range(MEDIAN + 1, len(LEVELS)):
        quantile = torch.quantile(size, 2.0 * LEVELS[i] - 1.0, dim=0)
        width = (quantile - below - WIDTH_FLOOR).clamp(min=1e-3)
        below = quantile
        raw[:, i] = raw[:, len(LEVELS) - 1 - i] = width + torch.log(-torch.expm1(-width))
    return raw


@torch.no_grad()
def evaluate(model, windows, device, batch=1024):
    """Mean loss and skill over all `windows`."""
    model.eval()
    outputs = [model(c.to(device), s.to(device)).cpu() for c, s, _ in windows.batches(batch)]
    quantiles = torch.cat(outputs)
    outlook = Expected(model.network.shape)
    expected, claimed = outlook(windows.scalars), outlook.claimed(windows.scalars)
    rmse, mae = skill(quantiles, windows.target, expected, claimed)
    return loss(quantiles, windows.target, expected, claimed).item(), rmse.mean().item(), mae.mean().item()


def rate_at(step, steps, peak, warmup=100):
    """Learning rate: linear warm-up, then half a cosine."""
    return peak * min(1.0, (step + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def train(args):
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
    if world > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    training, held_out = Windows(args.shards, args.model, "train"), Windows(args.shards, args.model, "valid")
    held_out = held_out.first(args.valid)
    if args.start:
        model, _ = load(args.start)
        if model.network.shape != SHAPES[args.model]:
            raise SystemExit(f"{args.start}: not a {args.model} model")
        model.train()
    else:
        model = build(args.model)
        model.network.start_at(marginal(held_out, model.expected))
    model.to(device)
    average = copy.deepcopy(model)
    shape = model.network.shape
    network = model
    if world > 1:
        network = torch.nn.parallel.DistributedDataParallel(network)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": args.decay}, {"params": plain, "weight_decay": 0.0}],
                                  lr=args.rate, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(args.seed + 1 + rank)
    curve, best, since, started = [], math.inf, 0, time.time()
    running = 0.0
    if rank == 0:
        print(f"{args.model}: {parameters(model)} parameters, {len(training)} windows, {len(held_out)} held out, {device}", flush=True)
    for step in range(args.steps):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, args.steps, args.rate)
        context, scalars, target = training.sample(args.batch, generator)
        context, scalars, target = (x.to(device) for x in augment(shape, context, scalars, target, generator))
        optimiser.zero_grad(set_to_none=True)
        value = loss(network(context, scalars), target, model.expected(scalars), model.expected.claimed(scalars))
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        running += value.item() / args.every
        with torch.no_grad():
            share = max(1.0 / (step + 1), 1.0 - args.average)
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), share)
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            stop = torch.zeros(1, device=device)
            if rank == 0:
                valid, rmse, mae = evaluate(average, held_out, device)
                curve.append([step + 1, round(running, 5), round(valid, 5), round(rmse, 4), round(mae, 4)])
                print(f"step {step + 1:6d}  train {running:.4f}  held out {valid:.4f}  rmse ratio {rmse:.4f}  mae ratio {mae:.4f}"
                      f"  {time.time() - started:.0f} s", flush=True)
                since += 1
                if valid < best:
                    best, since = valid, 0
                    record = {"seed": args.seed, "steps": step + 1, "planned_steps": args.steps, "batch": args.batch * world,
                              "rate": args.rate, "decay": args.decay, "average": args.average, "windows": len(training),
                              "held_out": len(held_out), "data": training.describe(), "judged": held_out.describe(), "start": bool(args.start), "curve": curve}
                    save(args.out, args.model, average, json.loads(json.dumps(record)))
                stop += since >= PATIENCE
            running = 0.0
            if world > 1:
                distributed.broadcast(stop, 0)
            if stop.item():
                break
    if rank == 0:
        kept, record = load(args.out)
        record["curve"] = curve
        save(args.out, args.model, kept, record)
        print(f"{args.out}: held-out loss {best:.4f} after {record['steps']} steps, {time.time() - started:.0f} s")
    if world > 1:
        distributed.destroy_process_group()


def parser():
    """The command line, which fine_tune.py shares."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("model", choices=SHAPES)
    made.add_argument("shards", type=pathlib.Path, help="folder written by `chronotick training-set`")
    made.add_argument("--out", required=True, help="checkpoint to write")
    made.add_argument("--start", help="checkpoint to start from")
    made.add_argument("--steps", type=int, default=6000)
    made.add_argument("--batch", type=int, default=256, help="windows a step and process")
    made.add_argument("--rate", type=float, default=2e-3)
    made.add_argument("--decay", type=float, default=0.02)
    made.add_argument("--average", type=float, default=0.998, help="memory of the weights' average")
    made.add_argument("--every", type=int, default=250, help="steps between evaluations")
    made.add_argument("--valid", type=int, default=8000, help="most held-out windows")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--threads", type=int, default=1)
    return made


if __name__ == "__main__":
    train(parser().parse_args())
