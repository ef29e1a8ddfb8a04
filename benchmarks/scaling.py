"""What a step of MMVAE+ costs from 2 to 20 modalities: all targets, and self + 1 random
other target, rescaled.

    python benchmarks/scaling.py [--batch 16] [--rounds 5] [--threads 1] [--clock wall] [--towers separate] [--plot FILE.png]

Decoder calls: M² against 2M. The last column says how far the times of self + 1 are
from the straight line through them.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from our_worker import Settings, build, stepper
from step import machine
from worker import Case, timed

from counterpoint.model.encoders import Towers

COUNTS = (2, 3, 5, 8, 12, 16, 20)
RULES = {
    "all targets": Settings(channels_last=True, rows=256),
    "self + 1": Settings(channels_last=True, rows=256, cross_targets=1),
}


def measure(case: Case, towers: Towers, rounds: int, clock: str) -> dict[str, float]:
    """Median seconds of a step by rule, taken in alternation."""
    rules = {rule: replace(settings, towers=towers) for rule, settings in RULES.items()}
    steps = {
        rule: stepper(build(case, settings), case, settings) for rule, settings in rules.items()
    }
    for step in steps.values():
        timed(step, 2)
    seconds: dict[str, list[float]] = {rule: [] for rule in steps}
    for _ in range(rounds):
        for rule, step in steps.items():
            seconds[rule] += timed(step, 1)[clock]
    return {rule: median(values) for rule, values in seconds.items()}


def plot(path: Path, times: dict[str, list[float]], line: np.ndarray) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for rule, values in times.items():
        axes.plot(COUNTS, values, "o-", label=rule)
    axes.plot(COUNTS, line, "k:", label="straight line through self + 1")
    axes.set(xlabel="modalities M", ylabel="seconds per step", xticks=COUNTS, ylim=(0, None))
    axes.legend()
    beside = path.with_suffix(".part.png")
    figure.savefig(beside, dpi=110)
    os.replace(beside, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument(
        "--towers", choices=("separate", "shared"), default="separate", help="trunks of z and w"
    )
    parser.add_argument("--plot", type=Path, help="write the curves there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    times: dict[str, list[float]] = {rule: [] for rule in RULES}
    for count in COUNTS:
        measured = measure(
            Case(batch=options.batch, modalities=count, threads=options.threads),
            options.towers,
            options.rounds,
            options.clock,
        )
        for rule, value in measured.items():
            times[rule].append(value)
    every, some = (np.array(times[rule]) for rule in RULES)
    slope, intercept = np.polyfit(COUNTS, some, 1)
    line = slope * np.array(COUNTS) + intercept
    print(
        f"{machine()}; {options.threads} thread(s), {options.clock} clock, batch {options.batch}, conv, {options.towers} towers, fp32 channels-last\n"
    )
    print(
        "| M | all targets, s/step | self + 1, s/step | ratio | off the line |\n|---|---|---|---|---|"
    )
    for count, a, b, straight in zip(COUNTS, every, some, line, strict=True):
        print(f"| {count} | {a:.3f} | {b:.3f} | {a / b:.2f}× | {100 * (b / straight - 1):+.1f} % |")
    print(
        f"\nself + 1: {1e3 * slope:.1f} ms per modality {1e3 * intercept:+.1f} ms; R² = {np.corrcoef(COUNTS, some)[0, 1] ** 2:.4f}"
    )
    if options.plot:
        plot(options.plot, times, line)


if __name__ == "__main__":
    main()
