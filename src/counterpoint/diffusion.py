"""Denoising diffusion of vectors (Ho et al. 2020, https://arxiv.org/abs/2006.11239).

    x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε,    ε ~ N(0, I),    SNR_t = ᾱ_t / (1−ᾱ_t)

The network predicts x_0 from (x_t, t). Loss: clamp(SNR_t, 1, 100)·mean‖x̂_0 − x_0‖². DDIM (Song et al. 2021,
https://arxiv.org/abs/2010.02502) with η = 0 walks a short subsequence of times:

    ε̂ = (x_t − √ᾱ_t x̂_0) / √(1−ᾱ_t),    x_s = √ᾱ_s x̂_0 + √(1−ᾱ_s) ε̂.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from counterpoint.nn import sinusoidal

Schedule = Literal["linear", "sigmoid"]
Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t (N, d), t (N,) or, one time for all rows, (1,)) → x̂_0 (N, d)."""


def alpha_bars(steps: int, schedule: Schedule) -> Tensor:
    """ᾱ_1..ᾱ_T, (T,), decreasing. ``linear``: β from 1e-4 to 0.02 (scaled to T = 1000); ``sigmoid``: Jabri et al. 2022
    (https://arxiv.org/abs/2212.11972), from −3 to 3 at τ = 1.

    Raises:
        ValueError: an unknown schedule.
    """
    if schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    elif schedule == "sigmoid":
        t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        start, end = torch.sigmoid(torch.tensor([-3.0, 3.0], dtype=torch.float64))
        bars = (end - torch.sigmoid(6 * t - 3)) / (end - start)
        betas = (1 - bars[1:] / bars[:-1]).clamp(0, 0.999)
    else:
        raise ValueError(f"unknown noise schedule {schedule!r}; choose 'linear' or 'sigmoid'")
    return torch.cumprod(1 - betas, 0).float()


class GaussianDiffusion(nn.Module):
    """The noising process and its DDIM reversal, for a network that predicts x_0.

    Args:
        steps: T.
        schedule: see ``alpha_bars``.
        snr_range: the loss weight is SNR_t clamped to this range.
    """

    alpha_bar: Tensor

    def __init__(self, *, steps: int = 1000, schedule: Schedule = "sigmoid", snr_range: tuple[float, float] = (1.0, 100.0)) -> None:
        super().__init__()
        self.steps = steps
        self.snr_range = snr_range
        self.register_buffer("alpha_bar", alpha_bars(steps, schedule), persistent=False)

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of rows (N, d) at times t (N,), 0-based."""
        bar = self.alpha_bar[t].unsqueeze(-1)
        return bar.sqrt() * x0 + (1 - bar).sqrt() * noise

    def loss(self, network: Denoiser, x0: Tensor) -> Tensor:
        """Weighted denoising error of each row, (N,), at one random time each."""
        t = torch.randint(self.steps, (len(x0),), device=x0.device)
        predicted = network(self.noised(x0, t, torch.randn_like(x0)), t)
        snr = self.alpha_bar[t] / (1 - self.alpha_bar[t])
        return snr.clamp(*self.snr_range) * (predicted - x0).square().mean(-1)

    def ddim(self, network: Denoiser, noise: Tensor, *, steps: int = 100) -> Tensor:
        """x_0 (N, d) from x_T = ``noise`` in ``steps`` deterministic steps.

        Raises:
            ValueError: more steps than T, or none.
        """
        if not 1 <= steps <= self.steps:
            raise ValueError(f"DDIM takes 1 to {self.steps} steps, got {steps}")
        times = torch.linspace(self.steps - 1, 0, steps, device=noise.device).round().long()
        x = noise
        for i, t in enumerate(times):
            x0 = network(x, t[None])
            if i + 1 == steps:
                return x0
            bar, before = self.alpha_bar[t], self.alpha_bar[times[i + 1]]
            eps = (x - bar.sqrt() * x0) / (1 - bar).sqrt()
            x = before.sqrt() * x0 + (1 - before).sqrt() * eps
        return x


class TimeMLP(nn.Module):
    """Residual MLP denoiser of vectors with a sinusoidal time embedding added in every block.

    Args:
        dim: size of the vectors.
        width: size of the hidden layers.
        depth: number of residual blocks.
    """

    def __init__(self, dim: int, width: int = 512, depth: int = 2) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width)) for _ in range(depth))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, dim))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h, time = self.first(x), self.time(sinusoidal(t, 64))
        for block in self.blocks:
            h = h + block(h + time)
        return self.last(h)
