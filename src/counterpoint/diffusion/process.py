"""The noising process, its predictions and its losses.

    x_t = α_t x_0 + σ_t ε,    ε ~ N(0, I),    α_t² + σ_t² = 1,    SNR_t = α_t² / σ_t²

Times are 0 .. T−1; between two of them log SNR is linear, so that solvers may stop
wherever they like. The network sees (x_t, t) and predicts

    x0     x_0
    eps    ε = (x_t − α_t x_0) / σ_t
    v      v = α_t ε − σ_t x_0             Salimans & Ho 2022, https://arxiv.org/abs/2202.00512

Each of them gives the others, and errors differ by a factor only: ‖ε̂ − ε‖² = SNR ‖x̂_0
− x_0‖² and ‖v̂ − v‖² = (SNR + 1) ‖x̂_0 − x_0‖². A loss is
therefore a weight w on the error of x_0:

    plain      1, SNR or SNR + 1: the mean squared error of what the network predicts
    min-snr    min(SNR, 5)                 Hang et al. 2023, https://arxiv.org/abs/2303.09556
    clamped    SNR between 1 and 100       IDMVAE 2025, https://arxiv.org/abs/2509.23548

and the bound −log p(x_0) ≤ KL(q(x_T | x_0) ‖ N(0, I)) + ½ Σ_{t≥1} (SNR_{t−1} − SNR_t)
‖x̂_0(x_t) − x_0‖² − log p(x_0 | x_{t=0}), the last with p(x_0 | x_t) = N(x_t / α_t,
σ_t² / α_t²) (Kingma et al. 2021, https://arxiv.org/abs/2107.00630).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from counterpoint.core import noise
from counterpoint.core.precision import wide
from counterpoint.diffusion.schedule import Schedule, alpha_bars

Network = Callable[[Tensor, Tensor], Tensor]
"""(x_t (N, *shape), t (N,), or (1,) for one time) → the prediction (N, *shape)."""

Prediction = Literal["x0", "eps", "v"]
Weighting = Literal["plain", "min-snr", "clamped"]


class GaussianDiffusion(nn.Module):
    """See the module for the derivation.

    >>> process = GaussianDiffusion(timesteps=1000, prediction_type="v")
    >>> process.log_snr(torch.tensor([0, 500, 999])).round()
    tensor([  8.,  -0., -15.])

    Args:
        timesteps: T.
        schedule: how signal turns into noise.
        prediction_type: what the network predicts.
        weight: of the loss.
        continuous: learn at any time between 0 and T−1 instead of whole times.

    Raises:
        ValueError: an unknown schedule, prediction or weighting, a weighting that
            diverges with the prediction, or no step.
    """

    log_snrs: Tensor

    def __init__(
        self,
        *,
        timesteps: int = 1000,
        schedule: Schedule = "sigmoid",
        prediction_type: Prediction = "x0",
        weighting: Weighting = "clamped",
        continuous: bool = False,
    ) -> None:
        super().__init__()
        _check_choice("prediction", prediction_type, get_args(Prediction))
        _check_choice("weighting", weighting, get_args(Weighting))
        self.timesteps = timesteps
        self.prediction_type = prediction_type
        self.weighting = weighting
        self.continuous = continuous
        if prediction_type == "eps" and weighting == "clamped":
            raise ValueError(
                "weighting='clamped' would multiply the error of eps by millions at the noisiest times; predict 'x0' or 'v' with it"
            )
        bars = alpha_bars(timesteps, schedule)
        self.register_buffer(
            "log_snrs", (bars.log() - torch.log1p(-bars)).float(), persistent=False
        )

    def log_snr(self, t: Tensor) -> Tensor:
        """log SNR_t (N,) of times t (N,), whole or fractional."""
        table = self.log_snrs
        if not t.is_floating_point():
            return table[t]
        before = t.floor().long().clamp(0, self.timesteps - 1)
        after = (before + 1).clamp(max=self.timesteps - 1)
        return torch.lerp(table[before], table[after], t - before)

    def rates(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """α_t and σ_t of times t (N,), shaped to multiply ``like`` (N, *shape)."""
        log_snr = self.log_snr(t).view(-1, *[1] * (like.ndim - 1))
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of rows (N, *shape) at times t (N,)."""
        alpha, sigma = self.rates(t, x0)
        return alpha * x0 + sigma * noise

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The target of the network."""
        if self.prediction_type == "x0":
            return x0
        alpha, sigma = self.rates(t, x0)
        return noise if self.prediction_type == "eps" else alpha * noise - sigma * x0

    def denoised(self, network: Network, x: Tensor, t: Tensor) -> Tensor:
        """x̂_0 (N, *shape) of x_t at times t, (N,) or (1,)."""
        predicted = wide(network(x, t))
        if self.prediction_type == "x0":
            return predicted
        alpha, sigma = self.rates(t, x)
        return (
            (x - sigma * predicted) / alpha
            if self.prediction_type == "eps"
            else alpha * x - sigma * predicted
        )

    def loss(self, network: Network, x0: Tensor) -> Tensor:
        """Weighted squared error of each row, a mean over its entries, (N,), at one
        random time each."""
        rows = (len(x0),)
        source = noise.generator(x0.device)
        if self.continuous:
            t = (self.timesteps - 1) * torch.rand(rows, generator=source, device=x0.device)
        else:
            t = torch.randint(self.timesteps, rows, generator=source, device=x0.device)
        eps = noise.normal_like(x0)
        error = wide(network(self.noised(x0, t, eps), t)) - self.target(x0, t, eps)
        return self._weight(t) * error.square().flatten(1).mean(1)

    def bound(self, network: Network, x0: Tensor, times: int = 1) -> Tensor:
        """An upper bound on −log p(x_0) in nats, (N,), whose sum over t is estimated at
        ``times`` random times."""
        snr = self.log_snrs.exp()
        alpha, sigma = (
            rate.flatten()
            for rate in self.rates(
                torch.tensor([0, self.timesteps - 1], device=x0.device), x0.flatten(1)
            )
        )
        size = x0[0].numel()
        prior = 0.5 * (
            alpha[1].square() * x0.square().flatten(1).sum(1)
            + size * (sigma[1].square() - 1 - 2 * sigma[1].log())
        )
        entropy = 0.5 * math.log(2 * math.pi * math.e)
        reconstruction = size * (entropy + (sigma[0] / alpha[0]).log())
        if self.timesteps == 1:
            return prior + reconstruction
        total = torch.zeros_like(prior)
        for _ in range(times):
            t = torch.randint(
                1,
                self.timesteps,
                (len(x0),),
                generator=noise.generator(x0.device),
                device=x0.device,
            )
            error = self.denoised(network, self.noised(x0, t, noise.normal_like(x0)), t) - x0
            fall = snr[t - 1] - snr[t]
            total = total + 0.5 * fall * error.square().flatten(1).sum(1)
        return prior + reconstruction + (self.timesteps - 1) / times * total

    def _weight(self, t: Tensor) -> Tensor:
        """The weight w over the factor of the prediction."""
        if self.weighting == "plain":
            return torch.ones_like(t, dtype=self.log_snrs.dtype)
        snr = self.log_snr(t).exp()
        own = {"x0": torch.ones_like(snr), "eps": snr, "v": snr + 1}[self.prediction_type]
        return (snr.clamp(1, 100) if self.weighting == "clamped" else snr.clamp(max=5)) / own


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"unknown {name} {value!r} of a diffusion; choose one of {', '.join(choices)}"
        )
