"""Taking turns: how the benchmarks of this folder compare what runs in one process."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

from counterpoint.core.batch import Batch
from counterpoint.methods import Method

Key = TypeVar("Key")


def training_step(method: Method, rows: int) -> Callable[[], None]:
    """A step of Adam on random values, bf16."""
    shapes = {m.name: (rows, *m.shape) for m in method.modalities}
    classes = {m.name: m.classes for m in method.modalities}
    x = {
        name: torch.randint(count, shapes[name])
        if (count := classes[name])
        else torch.rand(shapes[name])
        for name in shapes
    }
    batch = Batch.of(x, modalities=method.modalities)
    optimiser = torch.optim.Adam(method.parameters(), 1e-3)

    def run() -> None:
        method.train()
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.stack([term.mean() for term in method.losses(batch).values()]).sum()
        loss.backward()
        optimiser.step()

    return run


def seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(tasks: Mapping[Key, Callable[[], None]], rounds: int) -> dict[Key, list[float]]:
    """Seconds of each task in each round; a first round is thrown away."""
    taken: dict[Key, list[float]] = {key: [] for key in tasks}
    for turn in range(rounds + 1):
        for key, run in tasks.items():
            spent = seconds(run)
            if turn:
                taken[key].append(spent)
    return taken


def over(taken: Sequence[float], base: Sequence[float], digits: int = 1) -> str:
    """The median of the rounds' ratios, the least and the most."""
    ratios = sorted(a / b for a, b in zip(taken, base, strict=True))
    return (
        f"{statistics.median(ratios):.{digits}f}× ({ratios[0]:.{digits}f}–{ratios[-1]:.{digits}f})"
    )


def added_memory(run: Callable[[], None]) -> float:
    """MB that two runs add to the most that this process has held; ask in a process of
    its own."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
