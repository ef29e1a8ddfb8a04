"""Noise schedules: ᾱ_t, the share of the variance of x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε that
is still signal.

    linear     β_t from 1e-4 to 0.02 over 1000 steps, ᾱ_t = ∏ (1 − β_s)     Ho et al. 2020, https://arxiv.org/abs/2006.11239
    cosine     ᾱ(t) = cos²(½π (t + s)/(1 + s)) / cos²(½π s/(1 + s)), s = 0.008   Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672
    sigmoid    ᾱ(t) = [S(3) − S(6t − 3)] / [S(3) − S(−3)], S the sigmoid    Jabri et al. 2022, https://arxiv.org/abs/2212.11972

The first is also the VP-SDE with β(t) from 0.1 to 20 at a thousand times (Song et al.
2021, https://arxiv.org/abs/2011.13456).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Schedule = Literal["linear", "cosine", "sigmoid"]


def alpha_bars(steps: int, schedule: Schedule) -> Tensor:
    """ᾱ_1..ᾱ_T, (T,), decreasing, in double precision. Where T is not 1000, the betas
    of ``linear`` are scaled so that it ends in the same noise.

    >>> alpha_bars(1000, "linear")[[0, -1]]
    tensor([9.9990e-01, 4.0358e-05], dtype=torch.float64)

    Raises:
        ValueError: an unknown schedule, or no step.
    """
    if steps < 1:
        raise ValueError(f"a schedule needs 1 step or more, got {steps}")
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    elif schedule == "cosine":
        betas = _betas(torch.cos(0.5 * math.pi * (t + 0.008) / 1.008).square())
    elif schedule == "sigmoid":
        betas = _betas(
            torch.sigmoid(torch.tensor(3.0, dtype=torch.float64)) - torch.sigmoid(6 * t - 3)
        )
    else:
        raise ValueError(
            f"unknown noise schedule {schedule!r}; choose one of {', '.join(get_args(Schedule))}"
        )
    return torch.cumprod(1 - betas.clamp(0, 0.999), 0)


def _betas(bars: Tensor) -> Tensor:
    return 1 - bars[1:] / bars[:-1]
