"""Priors p(z) and p(w_m): standard, learned-scale and diffusion.

A ``Prior`` is a density: it enters the objective. A ``DiffusionPrior`` is a sampler fitted to posterior means, beside the
density that the KL keeps; at test time it takes the density's place where latents are drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from counterpoint.diffusion import GaussianDiffusion, TimeMLP
from counterpoint.distributions import Diagonal, family


class Prior(nn.Module):
    """Zero-mean diagonal prior.

    Args:
        dim: number of latent dimensions.
        name: ``"normal"`` or ``"laplace"``.
        learned_scale: learn one scale per dimension (initially 1), as auxiliary private priors do.
    """

    log_scale: Tensor

    def __init__(self, dim: int, name: str = "normal", *, learned_scale: bool = False) -> None:
        super().__init__()
        self.family = family(name)
        self.dim = dim
        if learned_scale:
            self.log_scale = nn.Parameter(torch.zeros(dim))
        else:
            self.register_buffer("log_scale", torch.zeros(dim), persistent=False)

    def forward(self) -> Diagonal:
        """The prior, parameters (dim,)."""
        return self.family(torch.zeros_like(self.log_scale), self.log_scale.exp())


class DiffusionPrior(nn.Module):
    """DDPM of latent vectors: T = 1000, sigmoid schedule, x0-prediction, loss weight SNR clamped to [1, 100].

    IDMVAE (2025, https://arxiv.org/abs/2509.23548) trains one for z, on every modality's posterior mean, and one per w_m.
    Latents are standardised by running statistics before diffusion (ours): the schedule supposes unit variance, and
    posterior means of a VAE rarely have it.

    Args:
        dim: number of latent dimensions.
        width: width of the denoiser.
    """

    def __init__(self, dim: int, *, width: int = 512) -> None:
        super().__init__()
        self.dim = dim
        self.process = GaussianDiffusion(steps=1000, schedule="sigmoid")
        self.network = TimeMLP(dim, width)
        self.statistics = nn.BatchNorm1d(dim, affine=False, momentum=0.01)

    def standardise_by(self, latents: Tensor) -> None:
        """Take mean and variance from these latents (N, dim), instead of starting at 0 and 1 and following batches."""
        self.mean.copy_(latents.mean(0))
        self.get_buffer("statistics.running_var").copy_(latents.var(0))

    def loss(self, latents: Tensor) -> Tensor:
        """Denoising loss of each row, (N,), of latents (N, dim). Gradients reach the latents."""
        if self.training and len(latents) > 1:
            with torch.no_grad():
                self.statistics(latents)
        return self.process.loss(self.network, (latents - self.mean) / self.scale)

    def sample(self, n: int, *, steps: int = 100) -> Tensor:
        """(n, dim) latents by DDIM, η = 0."""
        noise = torch.randn(n, self.dim, device=self.mean.device)
        return self.mean + self.scale * self.process.ddim(self.network, noise, steps=steps)

    @property
    def mean(self) -> Tensor:
        """Running mean of the latents, (dim,)."""
        return self.get_buffer("statistics.running_mean")

    @property
    def scale(self) -> Tensor:
        """Running standard deviation of the latents, (dim,)."""
        return (self.get_buffer("statistics.running_var") + self.statistics.eps).sqrt()
