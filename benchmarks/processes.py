"""Several processes: what a step costs and sends, what that means for many GPUs, and
weak scaling from one process to two here.

    python benchmarks/processes.py [--views 5] [--side 64] [--batch 128] [--steps 10] [--rounds 5] [--sustained 10 50 200] [--bandwidth 25] [--latency 5]
    python benchmarks/processes.py --gpu [--steps 40] [--batches 128 512]

First on paper, for IDMVAE with its own networks: floating-point operations of a
training sample (counted by torch as a step runs), bytes read, and bytes
sent each step: gradients, which are averaged over all processes, and vectors that
contrasts compare, which everybody gets from everybody. The expected efficiency is t /
(t + c): t is the step's operations over the sustained rate, c the time of what is sent
and not hidden behind computation: all of it, or all but the gradients that are sent
while the backward pass, two thirds of a step, goes on. A ring sends 2 (W − 1) / W of
the gradients' bytes in 2 (W − 1) hops.

Then measured: `fit` with one process and with two, the same rows for each process, in
turns; the ratio is the rate of two over twice that of one. Each process has one thread.
Two processes on two cores share caches and memory, and say little about GPUs. On a busy
machine look at processor seconds of one process over those that a process of two takes
for as many rows, which leave out the waiting for a core and for each other.

With ``--gpu`` what one GPU sustains is measured instead of assumed: `fit` from memory,
rows and learning rates and logs and all, at several precisions and batches, after ten
steps that are not counted; operations are those counted on paper, whatever a library
makes of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer
from torch.utils.flop_counter import FlopCounterMode

import counterpoint as cp
from counterpoint.objectives import contrast

PROBE_ROWS = 8
WORLDS = (1, 2, 8, 64, 512)
WARM = 10  # steps that are not timed


def data(options: argparse.Namespace, rows: int) -> cp.data.Split:
    """Noise for pictures."""
    shape = (rows, 3, options.side, options.side)
    rng = np.random.default_rng(0)
    x = {f"view{i}": rng.integers(0, 256, shape, dtype=np.uint8) for i in range(options.views)}
    return cp.data.Split(x, tuple(cp.Modality(name, shape[1:]) for name in x))


def method(split: cp.data.Split) -> cp.IDMVAE:
    torch.manual_seed(0)
    return cp.IDMVAE(split.modalities, shared_dim=32, private_dim=128)


def on_paper(options: argparse.Namespace) -> float:
    """Print what a step costs and sends, and what is expected of that; the operations
    of a sample."""
    split = data(options, PROBE_ROWS)
    model = method(split)
    vectors: list[int] = []  # numbers that a row hands over, by contrast
    gather = contrast._gathered

    def counted(a: Any, b: Any, valid: Any) -> Any:
        vectors.append(a.shape[0] * (a.shape[2] + b.shape[2] + 1))
        return gather(a, b, valid)

    contrast._gathered = counted
    with FlopCounterMode(display=False) as counter:
        torch.stack(
            [term.mean() for term in model.losses(split.batch(slice(None))).values()]
        ).sum().backward()
    contrast._gathered = gather
    weights = sum(p.numel() for p in model.parameters())
    flops = counter.get_total_flops() / PROBE_ROWS
    stored = sum(values[0].nbytes for values in split.x.values())
    gradients, contrasts = 4 * weights, 4 * sum(vectors) * options.batch
    print(
        f"IDMVAE, {options.views} views of 3×{options.side}×{options.side}, z 32, w 128; batch {options.batch} a process\n"
    )
    print("| | |\n|---|---|")
    print(f"| weights | {weights / 1e6:.2f} million |")
    print(f"| operations a sample, forward and backward | {flops / 1e9:.2f} GFLOP |")
    print(f"| bytes read a sample, as uint8 | {stored / 1e3:.1f} kB |")
    print(f"| gradients averaged a step, fp32 | {gradients / 1e6:.1f} MB |")
    print(f"| vectors that a process hands over a step, fp32 | {contrasts / 1e6:.2f} MB |")
    print(f"| operations for each byte of gradients | {flops * options.batch / gradients:.0f} |\n")
    bandwidth, hop = options.bandwidth * 1e9, options.latency * 1e-6
    print(
        f"{options.bandwidth:g} GB/s and {options.latency:g} µs a hop; {len(vectors)} gathers a step; efficiency with nothing and with gradients hidden\n"
    )
    rates = " | ".join(f"at {rate:g} TFLOP/s" for rate in options.sustained)
    print(
        f"| processes | gradients, ms | vectors, ms | {rates} |\n|---|---|---{'|---' * len(options.sustained)}|"
    )
    for world in WORLDS:
        averaging = 2 * (world - 1) / world * gradients / bandwidth + 2 * (world - 1) * hop
        handing = (
            2 * (world - 1) * (contrasts / bandwidth + hop * len(vectors))
        )  # there, and their gradients back
        shown = []
        for rate in options.sustained:
            seconds = flops * options.batch / (rate * 1e12)
            left = max(
                0.0, averaging - 2 / 3 * seconds
            )  # a backward pass takes two thirds of a step
            shown.append(
                f"{seconds / (seconds + averaging + handing):.2f}–{seconds / (seconds + left + handing):.2f}"
            )
        print(f"| {world} | {1e3 * averaging:.2f} | {1e3 * handing:.2f} | {' | '.join(shown)} |")
    reading = [f"{rate * 1e12 / flops * stored / 1e9:.2f}" for rate in options.sustained]
    print(f"\na process reads {', '.join(reading)} GB/s at these rates")
    return flops


class Clock(Callback):
    """The time from the end of step ``first`` to the end of training, when the device
    has done what it was told."""

    def __init__(self, first: int) -> None:
        self.first, self.start, self.seconds = first, 0.0, 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        torch.cuda.synchronize()
        if trainer.global_step == self.first:
            self.start = time.perf_counter()
        self.seconds = time.perf_counter() - self.start


def on_gpu(options: argparse.Namespace, flops: float) -> None:
    """What one GPU sustains."""
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print(
        "| precision | batch | samples/s | TFLOP/s | ms a step | GPU memory, GB |\n|---|---|---|---|---|---|"
    )
    for precision, tf32 in (("32-true", False), ("32-true", True), ("bf16-mixed", True)):
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        for batch in options.batches:
            split, clock = data(options, 4 * batch), Clock(WARM)
            torch.cuda.reset_peak_memory_stats()
            quiet: dict[str, Any] = {
                "progress": False,
                "loggers": (),
                "callbacks": [clock],
                "max_epochs": -1,
                "channels_last": True,
            }
            method(split).fit(
                split,
                max_steps=WARM + options.steps,
                batch_size=batch,
                accelerator="gpu",
                precision=precision,
                **quiet,
            )
            rate = options.steps * batch / clock.seconds
            named = {"32-true": "fp32", "bf16-mixed": "bf16"}[precision] + (
                " (TF32)" if tf32 and precision == "32-true" else ""
            )
            memory = torch.cuda.max_memory_allocated() / 1e9
            print(
                f"| {named} | {batch} | {rate:,.0f} | {rate * flops / 1e12:.1f} | {1e3 * batch / rate:.1f} | {memory:.1f} |",
                flush=True,
            )


def measured(options: argparse.Namespace) -> None:
    names = ("views", "side", "batch", "steps")
    print(
        "\n| round | 1 process, samples/s | 2 processes, samples/s | over twice the first | of processor s |\n|---|---|---|---|---|"
    )
    ratios, processor = [], []
    for turn in range(options.rounds):
        found = []
        for count in (1, 2):
            command = [
                sys.executable,
                __file__,
                f"--worker={count}",
                *(f"--{name}={getattr(options, name)}" for name in names),
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            said = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            ).stdout
            found.append(
                next(json.loads(line) for line in said.splitlines() if line.startswith('{"rate"'))
            )
        one, two = found
        ratios.append(two["rate"] / one["rate"] / 2)
        processor.append(one["cpu"] / two["cpu"])
        print(
            f"| {turn + 1} | {one['rate']:.1f} | {two['rate']:.1f} | {ratios[-1]:.3f} | {processor[-1]:.3f} |",
            flush=True,
        )
    for what, values in (("rates", ratios), ("processor seconds", processor)):
        print(
            f"\nweak scaling 1 → 2 by {what}: {statistics.median(values):.3f} ({min(values):.3f}–{max(values):.3f})"
        )


def worker(options: argparse.Namespace) -> None:
    """Train with so many processes, of which this is one, and tell the rate."""
    torch.set_num_threads(1)
    split = data(options, 2 * options.batch * options.steps)
    quiet: dict[str, Any] = {"progress": False, "loggers": (), "accelerator": "cpu"}
    model = method(split)
    before = time.process_time()
    result = model.fit(
        split, max_steps=options.steps, batch_size=options.batch, devices=options.worker, **quiet
    )
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(json.dumps({"rate": result.samples_per_second, "cpu": time.process_time() - before}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--sustained",
        type=float,
        nargs="+",
        default=[10, 50, 200],
        help="TFLOP/s that a process sustains",
    )
    parser.add_argument("--bandwidth", type=float, default=25, help="GB/s that a process sends")
    parser.add_argument("--latency", type=float, default=5, help="µs of a hop")
    parser.add_argument(
        "--gpu", action="store_true", help="measure what a GPU sustains, and nothing of processes"
    )
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[128, 512], help="rows a step on a GPU"
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options)
    flops = on_paper(options)
    if options.gpu:
        on_gpu(options, flops)
    elif options.rounds:
        measured(options)


if __name__ == "__main__":
    main()
