"""What a diffusion decoder costs beside a feed-forward one: a training step, sampling
by number of solver steps, and peak memory.

    python benchmarks/decoders.py [--side 32] [--width 32] [--rows 128] [--images 64] [--threads 2] [--rounds 5]

Diff-MVAE on random images of three channels and vectors of 18, bf16 in training. All
kinds live in one process and take turns; a figure is the median over the rounds, and
the ratio that of each round to the feed-forward decoder's. Peak memory is that of a
process of its own that does nothing else, and the same for any number of steps of the
solver.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Callable
from dataclasses import replace

import torch
from timing import added_memory, in_turns, over, training_step

import counterpoint as cp
from counterpoint.core.modality import Modality
from counterpoint.model.denoising import DenoiserOptions

KINDS = ("feed-forward", "embed", "film", "concat")
STEPS = (5, 10, 20, 50, 100)


def built(kind: str, side: int, width: int) -> cp.DiffMVAE:
    modalities = (
        Modality("image", (3, side, side)),
        Modality("attributes", (18,), "bernoulli", None),
    )
    options = (
        DenoiserOptions(width=width, condition=kind)
        if kind != "feed-forward"
        else DenoiserOptions()
    )  # type: ignore[arg-type]
    decoder = "feed-forward" if kind == "feed-forward" else "diffusion"
    return cp.DiffMVAE(
        modalities,
        decoder=decoder,
        score=False,
        networks=cp.NetworkOptions(width=32, hidden=(256,)),
        denoiser=options,
    )  # type: ignore[arg-type]


def draw(method: cp.DiffMVAE, images: int, steps: int) -> Callable[[], None]:
    latents = cp.Latents(torch.randn(1, images, method.model.shared_dim))

    def run() -> None:
        reads = method.model.likelihood("image")
        if hasattr(reads, "options"):
            reads.options = replace(reads.options, solver_steps=steps)
        method.decode(latents, ["image"])

    return run


def peak(kind: str, what: str, wanted: argparse.Namespace) -> float:
    """MB that two training steps, or drawing images twice, add to a process."""
    torch.set_num_threads(wanted.threads)
    method = built(kind, wanted.side, wanted.width)
    return added_memory(
        training_step(method, wanted.rows)
        if what == "step"
        else draw(method, wanted.images, min(STEPS))
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {
        "side": 32,
        "width": 32,
        "rows": 128,
        "images": 64,
        "threads": 2,
        "rounds": 5,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        kinds = [*((kind, "step") for kind in KINDS), (KINDS[0], "images"), ("embed", "images")]
        memory = {(kind, what): pool.apply(peak, (kind, what, wanted)) for kind, what in kinds}
    torch.set_num_threads(wanted.threads)
    torch.manual_seed(0)
    methods = {kind: built(kind, wanted.side, wanted.width) for kind in KINDS}
    tasks = {(kind, "step"): training_step(method, wanted.rows) for kind, method in methods.items()}
    tasks[KINDS[0], "images"] = draw(methods[KINDS[0]], wanted.images, 1)
    tasks |= {
        ("embed", f"images, {steps} steps"): draw(methods["embed"], wanted.images, steps)
        for steps in STEPS
    }
    times = in_turns(tasks, wanted.rounds)
    print(
        "| decoder | what | seconds | over feed-forward (least–most) | peak memory, MB |\n|---|---|---|---|---|"
    )
    for (kind, what), taken in times.items():
        task = what.partition(",")[0]
        print(
            f"| {kind} | {what} | {statistics.median(taken):.3f} | {over(taken, times[KINDS[0], task])} | {memory[kind, task]:.0f} |"
        )


if __name__ == "__main__":
    main()
