"""What both workers share, in either environment: the case they are given, and the loop
that times steps on request.

A worker builds its model once, prints one line of JSON about it, and then reads lines
"n" from standard input: for each it takes n training steps and prints one line of JSON
with their seconds. It lives as long as its input is open.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch

SHAPE = (3, 28, 28)
SCALE = 0.75
"""Laplace scale of every decoder."""


@dataclass(frozen=True)
class Case:
    """What is trained.

    Args:
        method: ``"mmvae+"``, ``"mvtcae"``, ``"mopoe"``; JNF's two stages,
            ``"jnf-joint"`` and ``"jnf-flows"``; or ``"jnf-draws"``, whose step draws
            once from the posterior given ``given`` modalities by a hundred Hamiltonian
            steps of ten leapfrogs.
        network: ``"conv"`` or ``"resnet"``, the peer's networks for PolyMNIST.
        batch: rows of a step.
        samples: K; above 1 the objective is DReG.
        shared_dim: D.
        private_dim: D_m, for methods that have private latents.
        modalities: M, each 3×28×28.
        given: of them, how many the draws are conditioned on.
        threads: of torch.
    """

    method: str = "mmvae+"
    network: str = "conv"
    batch: int = 128
    samples: int = 1
    shared_dim: int = 32
    private_dim: int = 32
    modalities: int = 5
    given: int = 2
    threads: int = 1

    @property
    def names(self) -> list[str]:
        return [f"m{i}" for i in range(self.modalities)]

    @property
    def arguments(self) -> list[str]:
        """The same case on a command line."""
        return [f"--{f.name.replace('_', '-')}={getattr(self, f.name)}" for f in fields(self)]


def add_case(parser: argparse.ArgumentParser) -> None:
    """Every field of a case as an option."""
    for f in fields(Case):
        parser.add_argument(
            f"--{f.name.replace('_', '-')}", type=type(f.default), default=f.default
        )


def read_case(options: argparse.Namespace) -> Case:
    return Case(**{f.name: getattr(options, f.name) for f in fields(Case)})


def images(case: Case) -> dict[str, torch.Tensor]:
    """Random images, the same in both workers."""
    torch.manual_seed(0)
    return {name: torch.rand(case.batch, *SHAPE) for name in case.names}


def trainable(parameters: Sequence[torch.Tensor]) -> int:
    return sum(p.numel() for p in parameters if p.requires_grad)


def peak_mb() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(step: Callable[[], float], count: int) -> dict[str, list[float]]:
    """Wall and processor seconds of each of ``count`` steps, and their losses."""
    measured: dict[str, list[float]] = {"wall": [], "cpu": [], "loss": []}
    for _ in range(count):
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step()
        measured["wall"].append(time.perf_counter() - wall)
        measured["cpu"].append(time.process_time() - cpu)
        measured["loss"].append(loss)
    return measured


def serve(step: Callable[[], float], about: Mapping[str, object]) -> None:
    """Answer requests until the input ends."""
    print(json.dumps({**about, "built_mb": peak_mb()}), flush=True)
    for line in sys.stdin:
        print(json.dumps({**timed(step, int(line)), "peak_mb": peak_mb()}), flush=True)
