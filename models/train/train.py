"""Trains one forecaster on the shards that `chronotick training-set` wrote.

usage: python train.py near SHARDS --steps 6000 --out near.pt
       torchrun --nproc-per-node 4 -- train.py far SHARDS --steps 20000 --out far.pt
       python train.py far SHARDS --teachers a.pt=0.5 b.pt=0.5 --out far.pt

Deterministic for one seed, one process and one thread on a processor. A GPU is used when there is one: it holds all windows
(`--worlds` reads fewer), and wants larger batches. The weights kept are an exponential average of the trained ones, taken when
its loss on the held-out worlds was lowest. With teachers the truths of the training windows are not looked at: the network
learns the weighted mean of what those say (Hinton, Vinyals and Dean 2015), of which each alone is further from the truth.
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
from contract import LEVELS, MEDIAN, SCALARS, SHAPES
from forecaster import build, load, parameters, place, save
from layers import WIDTH_FLOOR, Expected
from losses import apart, loss, missed, skill
from shards import Windows


def key_value(kind):
    """Reads `key=value` as a pair, the value of that kind."""
    def pair(text):
        key, _, value = text.partition("=")
        return key, kind(value)
    return pair


def positive(kind):
    """Reads a number of that kind above zero."""
    def number(text):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return value
    return number


def new(name, architecture):
    """A forecaster of chance, tried on nothing: not every architecture fits together."""
    try:
        model = build(name, **architecture)
        model(torch.zeros(1, SHAPES[name].channels, SHAPES[name].cells), torch.zeros(1, SCALARS))
        return model
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        usual = " ".join(f"{key}={value}" for key, value in build(name).network.config.items())
        raise SystemExit(f"--architecture: no {name} network is made like this; without the option it is {usual}")


def device_of(choice, rank):
    """Where process `rank` of this machine computes."""
    if choice == "cpu" or choice == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if rank >= torch.cuda.device_count():
        raise SystemExit(f"no GPU for process {rank} of this machine, which has {torch.cuda.device_count()}: "
                         "start no more processes than that, or give --device cpu")
    return torch.device("cuda", rank)


def marginal(windows, outlook):
    """Raw head values `[rows, 9]` that give every window the quantiles of all that the experts missed, symmetric about zero."""
    size, known = missed(windows.target, outlook(windows.scalars), outlook.claimed(windows.scalars))
    size = size[known.bool().all(1)].abs()
    if not len(size):
        raise SystemExit("no held-out window whose truth is known to the last row: record for longer, or give --start")
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
    device = device_of(args.device, int(os.environ.get("LOCAL_RANK", 0)))
    if args.start and args.architecture:
        raise SystemExit(f"--architecture is of new weights, and these begin as {args.start}: give one of both")
    if world > 1:
        if args.minutes:
            raise SystemExit("--minutes: each process would stop at another step; give --steps instead")
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    model = load(args.start, args.model)[0].train() if args.start else new(args.model, dict(args.architecture))
    teachers = [(load(path, args.model)[0].to(device).requires_grad_(False), weight) for path, weight in args.teachers]
    held_out = Windows(args.shards, args.model, "valid").first(args.valid)
    training = Windows(args.shards, args.model, "train", device, args.worlds)
    if not args.start:
        model.network.start_at(marginal(held_out, model.expected))
    model.to(device)
    average = copy.deepcopy(model)
    shape = model.network.shape
    network = model
    if world > 1:
        network = torch.nn.parallel.DistributedDataParallel(network)
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
    if world > 1:
        distributed.destroy_process_group()
    if rank == 0:
        if best == math.inf:
            raise SystemExit(f"nothing finite in {step + 1} steps: give a lower --rate; nothing written")
        kept, record = load(args.out)
        record["curve"] = curve
        save(args.out, args.model, kept, record)
        print(f"held-out loss {best:.4f} after {record['steps']} steps, {time.time() - started:.0f} s")


def parser():
    """The command line, which fine_tune.py shares."""
    made = argparse.ArgumentParser(usage="%(prog)s {near,far} SHARDS --out CHECKPOINT [option ...]", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("model", choices=SHAPES)
    made.add_argument("shards", type=pathlib.Path, help="folder written by `chronotick training-set`")
    made.add_argument("--out", required=True, type=place, help="checkpoint to write")
    made.add_argument("--start", help="checkpoint to start from")
    made.add_argument("--architecture", nargs="*", type=key_value(int), default=[], metavar="KEY=VALUE",
                      help="of new weights, e.g. layers=2 width=96")
    made.add_argument("--teachers", nargs="*", type=key_value(float), default=[], metavar="CHECKPOINT=WEIGHT",
                      help="learn their weighted mean instead of the truth")
    made.add_argument("--worlds", type=positive(int), default=math.inf,
                      help="read training shards, in order, until so many worlds are held (a recording counts as ten); else all")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU when there is one")
    made.add_argument("--compile", action="store_true", help="compile the network first (a minute; pays on a GPU)")
    made.add_argument("--steps", type=positive(int), default=6000)
    made.add_argument("--minutes", type=float, default=0.0, help="end after so many, if that is before --steps; 0: do not")
    made.add_argument("--batch", type=positive(int), default=256, help="windows a step and process")
    made.add_argument("--rate", type=positive(float), default=2e-3)
    made.add_argument("--decay", type=float, default=0.02)
    made.add_argument("--average", type=float, default=0.998, help="memory of the weights' average")
    made.add_argument("--every", type=positive(int), default=250, help="steps between evaluations")
    made.add_argument("--patience", type=positive(int), default=12, help="evaluations without a gain after which training ends")
    made.add_argument("--valid", type=positive(int), default=8000, help="most held-out windows")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--threads", type=positive(int), default=1)
    return made


if __name__ == "__main__":
    train(parser().parse_args())
