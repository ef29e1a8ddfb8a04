"""Distance to the floor: a full training step over forward and backward of the same
encoders and stacked decoder calls alone.

    python benchmarks/floor.py [CASE ...] [--settings NAME ...] [--rounds 7] [--threads 1] [--clock wall]

The floor has no sampling, no likelihood, no divergence and no optimiser. Both run in
one process on the same networks, in alternation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from our_worker import Settings, autocast, build, stepper
from step import CASES, DEFAULT_CASES, DEFAULT_SETTINGS, SETTINGS, machine
from worker import Case, images, timed

from counterpoint.methods import Method


def networks_alone(method: Method, case: Case, settings: Settings) -> Callable[[], float]:
    """Every encoder on the batch and every decoder on as many rows as a step gives it,
    with a given gradient of their outputs."""
    model, values = method.model, images(case)
    sources = (
        1
        if case.method != "mmvae+"
        else settings.cross_targets + 1
        if settings.cross_targets
        else case.modalities
    )
    rows = sources * case.samples * case.batch
    latents = torch.randn(
        rows, model.shared_dim + next(iter(model.private_dims.values()), 0), requires_grad=True
    )

    def step() -> float:
        method.zero_grad()
        outputs = []
        with autocast(settings):
            for name, encoder in model.posterior.encoders.items():
                outputs += [
                    part
                    for q in encoder(values[name])
                    if q is not None
                    for part in (q.loc, q.scale)
                ]
            for decoder in model.decoders.values():
                outputs.append(model._in_chunks(decoder, latents))  # cut as in a step
        torch.autograd.backward(outputs, [torch.ones_like(y) for y in outputs])
        return 0.0

    return step


def distance(
    case: Case, settings: Settings, rounds: int, clock: str
) -> tuple[float, float, list[float]]:
    """Median seconds of the full step and of the floor, and their ratio in each round."""
    method = build(case, settings)
    full, floor = stepper(method, case, settings), networks_alone(method, case, settings)
    timed(full, 2), timed(floor, 2)
    seconds = [(timed(full, 1)[clock][0], timed(floor, 1)[clock][0]) for _ in range(rounds)]
    return median(a for a, _ in seconds), median(b for _, b in seconds), [a / b for a, b in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help=f"of {', '.join(CASES)} (default: {', '.join(DEFAULT_CASES)})",
    )
    parser.add_argument(
        "--settings",
        nargs="+",
        default=DEFAULT_SETTINGS,
        choices=SETTINGS,
        metavar="NAME",
        help=f"of {', '.join(SETTINGS)}",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; choose from {', '.join(CASES)}")
    torch.set_num_threads(options.threads)
    print(f"{machine()}; {options.threads} thread(s), {options.clock} clock\n")
    print(
        "| case | setting | full step, s | networks alone, s | ratio (least–most) |\n|---|---|---|---|---|"
    )
    for name in options.cases or DEFAULT_CASES:
        case = replace(CASES[name], threads=options.threads)
        for setting in options.settings:
            full, floor, ratios = distance(case, SETTINGS[setting], options.rounds, options.clock)
            print(
                f"| {name} | {setting} | {full:.3f} | {floor:.3f} | **{median(ratios):.2f}×** ({min(ratios):.2f}–{max(ratios):.2f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
