"""Samplers of diffusions on Gaussian data, for which the best network is known: what is
lost is lost by the solver.

    python benchmarks/samplers.py [--rows 100000] [--std 0.6 1.5 0.8]

Reported: the worst error of a mean, in standard deviations, and the least and the
largest variance over the true one; and how often the network is asked.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from counterpoint import diffusion
from counterpoint.diffusion import GaussianDiffusion

WALKS = (
    ("ancestral", 1000), ("ancestral", 100), ("ddim", 1000), ("ddim", 50), ("ddim", 20), ("heun", 100), ("heun", 20), ("dpm++", 50), ("dpm++", 20),
    ("dpm++", 10), ("pc", 1000), ("pc", 500),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--std", type=float, nargs="+", default=[0.6, 1.5, 0.8])
    wanted = parser.parse_args()
    std = torch.tensor(wanted.std)
    mean = torch.linspace(-1, 2, len(std))
    print("schedule  solver    steps  asked  mean    variance")
    for schedule in ("linear", "cosine", "sigmoid"):
        process = GaussianDiffusion(schedule=schedule)  # type: ignore[arg-type]
        for solver, steps in WALKS:
            asked = 0

            def network(x: Tensor, t: Tensor, process: GaussianDiffusion = process) -> Tensor:
                nonlocal asked
                asked += 1
                alpha, sigma = process.rates(t, x)
                return mean + std**2 * alpha * (x - alpha * mean) / (alpha**2 * std**2 + sigma**2)

            torch.manual_seed(0)
            x = diffusion.sample(
                process, network, torch.randn(wanted.rows, len(std)), steps=steps, solver=solver
            )  # type: ignore[arg-type]
            off, ratio = ((x.mean(0) - mean) / std).abs().max(), x.var(0) / std**2
            print(
                f"{schedule:8}  {solver:9}  {steps:5}  {asked:5}  {off:.3f}   {ratio.min():.3f}–{ratio.max():.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
