"""Trains one forecaster on the shards that `chronotick training-set` wrote.

usage: python train.py near SHARDS --steps 6000 --out near.pt
       torchrun --nproc-per-node 4 -- train.py far SHARDS --steps 20000 --out far.pt
       python train.py far SHARDS --teachers a.pt=0.5 b.pt=0.5 --out far.pt

Deterministic for one seed, one process and one thread on a processor. A GPU is used when there is one: it holds all windows,
and wants larger batches. The weights kept are an exponential average of the trained ones, taken when its loss on the held-out
worlds was lowest. With teachers the truths of the training windows are not looked at: the network learns the weighted mean of
what those say (Hinton, Vinyals and Dean 2015), of which each alone is further from the truth.
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
from losses import apart, loss, missed, skill
from shards import Windows


def key_value(kind):
    """Reads `key=value` as a pair, the value of that kind."""
    def pair(text):
        key, _, value = text.partition("=")
        return key, kind(value)
    return pair


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
    quantiles = torch.cat([model(c.to(device), s.to(device)) for c, s, _ in windows.batches(batch)]).to(windows.target.device)
    outlook = Expected(model.network.shape).to(windows.target.device)
    expected, claimed = outlook(windows.scalars), outlook.claimed(windows.scalars)
    rmse, mae = skill(quantiles, windows.target, expected, claimed)
    return loss(quantiles, windows.target, expected, claimed).item(), rmse.mean().item(), mae.mean().item()


def objective(model, teachers):
    """Loss of a batch, as one function that can be compiled: from the truth, or from what `[(teacher, weight)]` say."""
    def from_truth(network, context, scalars, target):
        return loss(network(context, scalars), target, model.expected(scalars), model.expected.claimed(scalars))

    def from_teachers(network, context, scalars, _target):
        with torch.no_grad():
            wanted = sum(weight * teacher(context, scalars) for teacher, weight in teachers)
        return apart(network(context, scalars), wanted, model.expected.claimed(scalars))
    return from_teachers if teachers else from_truth


def rate_at(step, progress, peak, warmup=100):
    """Learning rate: linear warm-up, then half a cosine until a `progress` of 1."""
    return peak * min(1.0, (step + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def train(args):
    started = time.time()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
    if world > 1:
        if args.minutes:
            raise SystemExit("--minutes: each process would stop at another step; give --steps instead")
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    training = Windows(args.shards, args.model, "train", device)
    held_out = Windows(args.shards, args.model, "valid").first(args.valid)
    if args.start:
        model, _ = load(args.start)
        if model.network.shape != SHAPES[args.model]:
            raise SystemExit(f"{args.start}: not a {args.model} model")
        model.train()
    else:
        model = build(args.model, **dict(args.architecture))
        model.network.start_at(marginal(held_out, model.expected))
    model.to(device)
    average = copy.deepcopy(model)
    shape = model.network.shape
    network = model
    if world > 1:
        network = torch.nn.parallel.DistributedDataParallel(network)
    teachers = [(load(path)[0].to(device).requires_grad_(False), weight) for path, weight in args.teachers]
    value_of = objective(model, teachers)
    if args.compile:
        value_of = torch.compile(value_of)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": args.decay}, {"params": plain, "weight_decay": 0.0}],
                                  lr=args.rate, betas=(0.9, 0.98))
    generator = torch.Generator(device).manual_seed(args.seed + 1 + rank)
    curve, best, since = [], math.inf, 0
    # Of the minutes, what reading the windows has left.
    first, span = time.time(), math.inf
    if args.minutes:
        span = max(started + 60.0 * args.minutes - first, 1.0)
    running = torch.zeros((), device=device)
    if rank == 0:
        print(f"{args.model}: {parameters(model)} parameters, {len(training)} windows, {len(held_out)} held out, {device}", flush=True)
    for step in range(args.steps):
        progress = max(step / args.steps, (time.time() - first) / span)
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, progress, args.rate)
        context, scalars, target = training.sample(args.batch, generator)
        context, scalars, target = augment(shape, context, scalars, target, generator)
        optimiser.zero_grad(set_to_none=True)
        value = value_of(network, context, scalars, target)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        running += value.detach()
        with torch.no_grad():
            share = max(1.0 / (step + 1), 1.0 - args.average)
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), share)
        over = progress >= 1.0 or step + 1 == args.steps
        if (step + 1) % args.every == 0 or over:
            stop = torch.zeros(1, device=device)
            if rank == 0:
                seen = running.item() / (step % args.every + 1)
                valid, rmse, mae = evaluate(average, held_out, device)
                curve.append([step + 1, round(seen, 5), round(valid, 5), round(rmse, 4), round(mae, 4)])
                print(f"step {step + 1:6d}  train {seen:.4f}  held out {valid:.4f}  rmse ratio {rmse:.4f}  mae ratio {mae:.4f}"
                      f"  {time.time() - started:.0f} s", flush=True)
                since += 1
                if valid < best:
                    best, since = valid, 0
                    record = {"seed": args.seed, "steps": step + 1, "planned_steps": args.steps, "batch": args.batch * world,
                              "rate": args.rate, "decay": args.decay, "average": args.average, "windows": len(training),
                              "held_out": len(held_out), "data": training.describe(), "judged": held_out.describe(),
                              "start": pathlib.Path(args.start).name if args.start else "",
                              "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "processor",
                              "teachers": [[pathlib.Path(path).name, weight] for path, weight in args.teachers],
                              "curve": curve}
                    save(args.out, args.model, average, json.loads(json.dumps(record)))
                stop += since >= args.patience
            running.zero_()
            if world > 1:
                distributed.broadcast(stop, 0)
            if over or stop.item():
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
    made.add_argument("--architecture", nargs="*", type=key_value(int), default=[], metavar="KEY=VALUE",
                      help="of new weights, e.g. layers=2 width=96")
    made.add_argument("--teachers", nargs="*", type=key_value(float), default=[], metavar="CHECKPOINT=WEIGHT",
                      help="learn their weighted mean instead of the truth")
    made.add_argument("--compile", action="store_true", help="compile the network first (a minute; pays on a GPU)")
    made.add_argument("--steps", type=int, default=6000)
    made.add_argument("--minutes", type=float, default=0.0, help="end after so many, if that is before --steps; 0: do not")
    made.add_argument("--batch", type=int, default=256, help="windows a step and process")
    made.add_argument("--rate", type=float, default=2e-3)
    made.add_argument("--decay", type=float, default=0.02)
    made.add_argument("--average", type=float, default=0.998, help="memory of the weights' average")
    made.add_argument("--every", type=int, default=250, help="steps between evaluations")
    made.add_argument("--patience", type=int, default=12, help="evaluations without a gain after which training ends")
    made.add_argument("--valid", type=int, default=8000, help="most held-out windows")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--threads", type=int, default=1)
    return made


if __name__ == "__main__":
    train(parser().parse_args())
