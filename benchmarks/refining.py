"""What refinement costs, by its number of steps T: a training step beside JMVAE's,
answers with and without it, floating-point operations, memory.

    python benchmarks/refining.py [--rows 128] [--width 16] [--threads 1] [--rounds 7]

Random images of 1×28×28 and 1×16×16 and words of eight signs, the networks of
docs/results/iterative.md. All kinds live in one process and take turns; a figure is the
median over the rounds, and a ratio that of each round to JMVAE's. Peak memory is that
of a process of its own that does nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Callable

import torch
from timing import added_memory, in_turns, over, training_step
from torch.utils.flop_counter import FlopCounterMode

import counterpoint as cp
from counterpoint.core.modality import Modality
from counterpoint.methods import Method

MODALITIES = (
    Modality("mnist", (1, 28, 28), "normal", 0.3),
    Modality("usps", (1, 16, 16), "normal", 0.3),
    Modality("text", (8,), "categorical", classes=16),
)
KINDS = {
    "jmvae": 0,
    **{f"T = {steps}": steps for steps in (1, 2, 5, 10)},
    **{f"T = {steps}, one round": steps for steps in (2, 5)},
}

TIMES = 10
"""How often what takes milliseconds is asked in a row."""


def built(kind: str, width: int) -> Method:
    torch.manual_seed(0)
    networks = cp.NetworkOptions(width=width, hidden=(256,))
    if not KINDS[kind]:
        return cp.JMVAE(MODALITIES, shared_dim=20, networks=networks)
    refiner = cp.RefinerOptions(steps=KINDS[kind], rounds=1 if kind.endswith("round") else None)
    return cp.IterativeMVAE(MODALITIES, shared_dim=20, networks=networks, refiner=refiner)


def answer(method: Method, rows: int, given: list[str], refine: int | None) -> Callable[[], None]:
    torch.manual_seed(0)
    x = {
        m.name: torch.randint(16, (rows, *m.shape)) if m.classes else torch.rand(rows, *m.shape)
        for m in MODALITIES
        if m.name in given
    }

    def run() -> None:
        for _ in range(1 if refine else TIMES):
            method.encode(x, given, refine=refine)

    return run


def operations(run: Callable[[], None]) -> float:
    """Billions of floating-point operations."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def peak(kind: str, width: int, rows: int, threads: int) -> float:
    """MB that two steps add to a process."""
    torch.set_num_threads(threads)
    return added_memory(training_step(built(kind, width), rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"rows": 128, "width": 16, "threads": 1, "rounds": 7}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {
            kind: pool.apply(peak, (kind, wanted.width, wanted.rows, wanted.threads))
            for kind in KINDS
        }
    torch.set_num_threads(wanted.threads)
    methods = {kind: built(kind, wanted.width) for kind in KINDS}
    names = [m.name for m in MODALITIES]
    tasks = {(kind, "step"): training_step(method, wanted.rows) for kind, method in methods.items()}
    tasks |= {
        (kind, "mnist"): answer(method, wanted.rows, ["mnist"], None)
        for kind, method in methods.items()
    }
    tasks |= {
        (kind, "all"): answer(method, wanted.rows, names, KINDS[kind] or None)
        for kind, method in methods.items()
    }
    taken = in_turns(tasks, wanted.rounds)
    print(
        "| | a training step, s | over JMVAE | GFLOP | memory, MB | given mnist, no refinement: over JMVAE | given everything, refined: s |"
    )
    print("|---|---|---|---|---|---|---|")
    for kind in KINDS:
        step, alone, whole = (taken[kind, what] for what in ("step", "mnist", "all"))
        cells = [
            kind,
            f"{statistics.median(step):.3f}",
            over(step, taken["jmvae", "step"], 2),
            f"{operations(tasks[kind, 'step']):.1f}",
            f"{memory[kind]:.0f}",
            over(alone, taken["jmvae", "mnist"], 2),
            f"{statistics.median(whole) / (1 if KINDS[kind] else TIMES):.3f}",
        ]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
