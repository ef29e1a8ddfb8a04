"""Features of time for diffusion networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding (N, dim) of times (N,), frequencies from 1 down to 1e-4
    (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""
    frequencies = torch.exp(torch.linspace(0, -math.log(1e4), dim // 2, device=t.device))
    angles = t.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)
