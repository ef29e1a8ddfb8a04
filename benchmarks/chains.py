"""Hamiltonian Monte Carlo on a product of posteriors that is known: fixed step sizes
and leapfrogs against adapted ones.

    python benchmarks/chains.py [--given 2] [--dim 16] [--rows 100] [--chains 64] [--steps 100] [--seeds 0 1 2] [--threads 1]

A linear-Gaussian model: q(z | x_m) is normal with a covariance of its own, and the
product of the posteriors, with the prior divided out, is normal too. Chains of many
targets start at draws from one of the posteriors, as in JNF, whose published setting is
a step of 0.01 with ten leapfrogs for 100 steps, without adaptation. Reported for the
state after all steps (a draw of each chain): ``mean``, the root mean square error of
its mean in standard deviations of the target, as it would be with infinitely many
chains; ``variance``, its variance over the target's; for the chain as a whole:
acceptance, effective draws (of the worst dimension) of a chain, and of a thousand
gradients. Adapted chains spend half of their steps on warm-up.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor

from counterpoint.probability import convergence, mcmc
from counterpoint.probability.mcmc import HMC

SIZES = (0.01, 0.03, 0.1, 0.3)
LEAPFROGS = (5, 10, 20)


@dataclass(frozen=True)
class Oracle:
    """Means (S, B, D) and precisions (S, D, D) of the posteriors, and mean (B, D) and
    covariance (D, D) of their product."""

    means: Tensor
    precisions: Tensor
    mean: Tensor
    covariance: Tensor

    @staticmethod
    def drawn(given: int, dim: int, rows: int, seed: int) -> Oracle:
        rng = torch.Generator().manual_seed(seed)
        loading = 0.7 * torch.randn(given, dim, dim, generator=rng)
        noise = torch.randn(given, rows, dim, generator=rng)
        truth = torch.randn(rows, dim, generator=rng)
        precisions = torch.eye(dim) + loading.transpose(1, 2) @ loading
        said = (
            torch.einsum(
                "sij,sbj->sbi", loading.transpose(1, 2) @ loading, truth.expand(given, -1, -1)
            )
            + noise @ loading
        )
        means = torch.linalg.solve(precisions, said.transpose(1, 2)).transpose(1, 2)
        covariance = torch.linalg.inv(precisions.sum(0) - (given - 1) * torch.eye(dim))
        return Oracle(means, precisions, said.sum(0) @ covariance, covariance)

    def log_density(self, z: Tensor) -> Tensor:
        error = z - self.means.unsqueeze(1)  # (S, C, B, D)
        quadratic = torch.einsum("scbi,sij,scbj->cb", error, self.precisions, error)
        return 0.5 * ((len(self.means) - 1) * z.square().sum(-1) - quadratic)

    def start(self, chains: int) -> Tensor:
        """Draws (C, B, D) from the posteriors in turn."""
        roots = torch.linalg.cholesky(torch.linalg.inv(self.precisions))
        turn = torch.arange(chains) % len(self.means)
        noise = torch.randn(chains, *self.mean.shape)
        return self.means[turn] + torch.einsum("cij,cbj->cbi", roots[turn], noise)


def fixed(
    oracle: Oracle, chains: int, steps: int, size: float, leapfrogs: int
) -> tuple[Tensor, float, int]:
    """Draws (N, C, B, D), acceptance, and gradients of a chain."""
    target = mcmc.differentiated(oracle.log_density)
    state, draws, taken = mcmc.init(target, oracle.start(chains)), [], []
    for _ in range(steps):
        state, info = mcmc.step(
            target,
            state,
            step_size=torch.tensor(size),
            leapfrogs=leapfrogs,
            variance=torch.ones(oracle.mean.shape[-1]),
        )
        draws.append(state.position)
        taken.append(info.acceptance)
    return torch.stack(draws), float(torch.stack(taken).mean()), steps * leapfrogs


def adapted(oracle: Oracle, chains: int, steps: int, leapfrogs: int) -> tuple[Tensor, float, int]:
    settings = HMC(chains=chains, warmup=steps // 2, steps=steps - steps // 2, leapfrogs=leapfrogs)
    found = mcmc.sample(oracle.log_density, oracle.start(chains), settings)
    return found.draws, float(found.acceptance.mean()), steps * (leapfrogs + 1) // 2


def figures(oracle: Oracle, draws: Tensor, acceptance: float, gradients: int) -> list[float]:
    last, scale = draws[-1], oracle.covariance.diagonal().sqrt()
    chains = len(last)
    error = ((last.mean(0) - oracle.mean) / scale).square().mean() - (
        last.var(0) / scale.square()
    ).mean() / chains
    variance = float((last.var(0) / scale.square()).mean())
    size = float((convergence.effective_size(draws) / chains).amin(-1).median())
    return [float(error.clamp(min=0).sqrt()), variance, acceptance, size, 1000 * size / gradients]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--given", type=int, default=2)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        "| step × leapfrogs | mean | variance | acceptance | effective draws of a chain | of 1,000 gradients |\n|---|---|---|---|---|---|"
    )
    for size, leapfrogs in [*itertools.product(SIZES, LEAPFROGS), *((None, n) for n in LEAPFROGS)]:
        found = []
        for seed in options.seeds:
            oracle = Oracle.drawn(options.given, options.dim, options.rows, seed)
            torch.manual_seed(seed)
            chains = (
                adapted(oracle, options.chains, options.steps, leapfrogs)
                if size is None
                else fixed(oracle, options.chains, options.steps, size, leapfrogs)
            )
            found.append(figures(oracle, *chains))
        columns = [f"{mean(c):.3g} ({min(c):.2g}–{max(c):.2g})" for c in zip(*found, strict=True)]
        name = f"adapted × 1–{leapfrogs}" if size is None else f"{size} × {leapfrogs}"
        print(f"| {name} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
