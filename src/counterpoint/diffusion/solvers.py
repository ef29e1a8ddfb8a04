"""From noise to values: walks x_T → x_0 along falling times, asking for x̂_0 at each.

With λ = ½ log SNR = log(α/σ), from time t to an earlier time s:

    ancestral    x_s = α_s x̂_0 + √(σ_s² − σ̃²) ε̂ + σ̃ n,    σ̃² = σ_s²/σ_t² (1 − α_t²/α_s²)    Ho et al. 2020, https://arxiv.org/abs/2006.11239
    ddim         the same without noise, σ̃ = 0                                               Song et al. 2021, https://arxiv.org/abs/2010.02502
    heun         the probability-flow equation d(x/α) = ε̂ d(σ/α) by Heun's rule, of which DDIM is Euler's: two evaluations a step, but for the first
                                                                                            Karras et al. 2022, https://arxiv.org/abs/2206.00364
    dpm++        the same equation in λ, x̂_0 extrapolated from the last two: second order at one evaluation a step (DPM-Solver++ 2M)
                                                                                            Lu et al. 2022, https://arxiv.org/abs/2211.01095
    pc           the reverse of the noising equation by Euler–Maruyama, and after each step one of Langevin at signal-to-noise ratio 0.16
                                                                                            Song et al. 2021, https://arxiv.org/abs/2011.13456

Every walk ends with x̂_0 at the smallest time. ``ancestral``, ``ddim`` and ``pc`` step
evenly in time; the solvers, whose error is one of λ, evenly in λ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from counterpoint.core import noise
from counterpoint.core.registry import Registry
from counterpoint.diffusion.process import GaussianDiffusion, Network

LANGEVIN_SNR = 0.16
"""Signal-to-noise ratio of the Langevin steps of ``pc``."""

MIN_SOLVER_STEPS = 20
"""Fewest steps with which ``heun`` and ``pc`` give sensible values."""

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t (N, *shape), t (1,)) → x̂_0 (N, *shape)."""

Walk = Callable[[GaussianDiffusion, Denoise, Tensor, Tensor], Tensor]
"""(process, denoise, x_T (N, *shape), falling times (n,)) → x at the last time."""


@dataclass(frozen=True)
class Solver:
    """How to walk from noise to values.

    >>> SOLVERS["dpm++"].even_in_log_snr
    True

    Args:
        walk: takes the process, a function that denoises, x_T and the times.
        even_in_log_snr: steps are even in log SNR instead of in time.
        min_steps: fewest steps that a decoder may take.
    """

    walk: Walk
    even_in_log_snr: bool = False
    min_steps: int = 1


def sample(
    process: GaussianDiffusion,
    network: Network,
    noise: Tensor,
    *,
    steps: int = 100,
    solver: str = "ddim",
    within: float | None = None,
) -> Tensor:
    """x_0 (N, *shape) from x_T = ``noise``. Differentiable; other random numbers than
    ``noise`` come from :mod:`counterpoint.core.noise`.

    >>> from counterpoint.diffusion.process import GaussianDiffusion
    >>> process = GaussianDiffusion(prediction_type="x0")
    >>> sample(process, lambda x, t: torch.full_like(x, 3.0), torch.zeros(1, 2), steps=5)
    tensor([[3., 3.]])

    Args:
        process: noising, and what the network predicts.
        network: (x_t, t) → its prediction.
        noise: x_T.
        steps: times at which x̂_0 is asked for (by ``heun`` and ``pc`` twice, but for
            the last, and by ``heun`` for the first).
        solver: one of :data:`SOLVERS`.
        within: keep every x̂_0 between −within and within, for values that are known to
            lie there.

    Raises:
        ValueError: an unknown solver, more steps than T, or none.
    """
    chosen = SOLVERS.named(solver)
    if not 1 <= steps <= process.timesteps:
        raise ValueError(f"{solver} takes 1 to {process.timesteps} steps, got {steps}")

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        x0 = process.denoised(network, x, t)
        return x0 if within is None else x0.clamp(-within, within)

    times = (_even_in_log_snr if chosen.even_in_log_snr else _even)(process, steps)
    x = chosen.walk(process, denoise, noise, times) if steps > 1 else noise
    return denoise(x, times[-1:])


def _even(process: GaussianDiffusion, steps: int) -> Tensor:
    """T−1 .. 0, rounded to whole times."""
    return (
        torch.linspace(process.timesteps - 1, 0, steps, device=process.log_snrs.device)
        .round()
        .long()
    )


def _even_in_log_snr(process: GaussianDiffusion, steps: int) -> Tensor:
    """T−1, and then T−2 .. 0 with even steps of log SNR, at fractional times. The first
    step leaves T−1, since most schedules end in a large step to almost no signal, which
    would take many of the even steps."""
    if steps < 3:
        return _even(process, steps).float()
    last = process.timesteps - 1
    return torch.cat(
        [
            torch.full((1,), float(last), device=process.log_snrs.device),
            _between(process.log_snrs[:-1], steps - 1),
        ]
    )


def _between(log_snrs: Tensor, steps: int) -> Tensor:
    """Times from the last to the first with even steps of a falling log SNR (T,)."""
    table = log_snrs.flip(0)  # rising
    wanted = torch.linspace(float(table[0]), float(table[-1]), steps, device=table.device).clamp(
        table[0], table[-1]
    )
    right = (
        torch.searchsorted(table, wanted).clamp(1, len(table) - 1)
        if len(table) > 1
        else torch.zeros_like(wanted, dtype=torch.long)
    )
    left = (right - 1).clamp(min=0)
    width = (table[right] - table[left]).clamp(min=1e-12)
    part = ((wanted - table[left]) / width).clamp(0, 1)
    return len(table) - 1 - (left + part)


def _ddim(process: GaussianDiffusion, denoise: Denoise, x: Tensor, times: Tensor) -> Tensor:
    for t, s in _pairs(times):
        x0 = denoise(x, t)
        alpha, sigma = process.rates(s, x)
        x = alpha * x0 + sigma * _eps(process, x, x0, t)
    return x


def _ancestral(process: GaussianDiffusion, denoise: Denoise, x: Tensor, times: Tensor) -> Tensor:
    for t, s in _pairs(times):
        x0 = denoise(x, t)
        (alpha_t, sigma_t), (alpha, sigma) = process.rates(t, x), process.rates(s, x)
        fresh = (sigma / sigma_t).square() * (1 - (alpha_t / alpha).square())
        kept = sigma.square() * alpha_t / (alpha * sigma_t)  # √(σ_s² − σ̃²)
        eps = _eps(process, x, x0, t)
        x = alpha * x0 + kept * eps + fresh.sqrt() * noise.normal_like(x)
    return x


def _heun(process: GaussianDiffusion, denoise: Denoise, x: Tensor, times: Tensor) -> Tensor:
    for i, (t, s) in enumerate(_pairs(times)):
        (alpha_t, sigma_t), (alpha, sigma) = process.rates(t, x), process.rates(s, x)
        width = sigma / alpha - sigma_t / alpha_t
        first = _eps(process, x, denoise(x, t), t)
        euler = alpha * (x / alpha_t + width * first)
        if i == 0:  # the step from almost no signal is too wide for a second evaluation
            x = euler
            continue
        second = _eps(process, euler, denoise(euler, s), s)
        x = alpha * (x / alpha_t + 0.5 * width * (first + second))
    return x


def _multistep(process: GaussianDiffusion, denoise: Denoise, x: Tensor, times: Tensor) -> Tensor:
    before: tuple[Tensor, Tensor] | None = None
    for t, s in _pairs(times):
        x0 = denoise(x, t)
        width = 0.5 * (process.log_snr(s) - process.log_snr(t))
        ahead = x0
        if before is not None:
            ahead = x0 + (x0 - before[0]) * (0.5 * width / before[1])
        sigma_t, (alpha, sigma) = process.rates(t, x)[1], process.rates(s, x)
        x = sigma / sigma_t * x - alpha * torch.expm1(-width) * ahead
        before = x0, width
    return x


def _corrected(process: GaussianDiffusion, denoise: Denoise, x: Tensor, times: Tensor) -> Tensor:
    for t, s in _pairs(times):
        (alpha_t, _), (alpha, _) = process.rates(t, x), process.rates(s, x)
        beta = 1 - (alpha_t / alpha).square()
        x = (
            x
            + beta * (0.5 * x + _score(process, x, denoise(x, t), t))
            + beta.sqrt() * noise.normal_like(x)
        )
        score = _score(process, x, denoise(x, s), s)
        eps = noise.normal_like(x)
        size = 2 * (1 - beta) * (LANGEVIN_SNR * _norm(eps) / _norm(score)).square()
        # Our choice; without it, each Langevin step leaves normals 1.3 % too wide.
        kept = 1 - (1 - beta) * LANGEVIN_SNR**2
        x = x + size * score + (2 * size * kept).sqrt() * eps
    return x


def _pairs(times: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [*pairwise(times.split(1))]


def _eps(process: GaussianDiffusion, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = process.rates(t, x)
    return (x - alpha * x0) / sigma


def _score(process: GaussianDiffusion, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    """The score ∇ log q(x_t) = −ε̂ / σ_t."""
    return -_eps(process, x, x0, t) / process.rates(t, x)[1]


def _norm(x: Tensor) -> Tensor:
    """Mean length of the rows."""
    return x.flatten(1).norm(dim=1).mean()


SOLVERS: Registry[Solver] = Registry(
    "solver",
    {
        "ancestral": Solver(_ancestral),
        "ddim": Solver(_ddim),
        "heun": Solver(_heun, even_in_log_snr=True, min_steps=MIN_SOLVER_STEPS),
        "dpm++": Solver(_multistep, even_in_log_snr=True),
        "pc": Solver(_corrected, min_steps=MIN_SOLVER_STEPS),
    },
)
"""Solvers by name."""
