"""``fit_prior``: learn the aggregate posterior after training, for any method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ..data import Split
    from ..methods import Method


def fit_prior(
    method: Method, train: Split, *, width: int = 512, steps: int = 2000, batch_size: int = 512, lr: float = 1e-3, seed: int = 0
) -> list[float]:
    """Fit one diffusion prior to z, on every modality's posterior mean, and one to each w_m; encoders and decoders stay as they are.

    The rows are encoded once. What was fitted or trained before is replaced, and ``sample`` and ``translate`` use the new priors from then on.

    Args:
        method: a trained method.
        train: the rows whose posterior means to learn.
        width: width of the denoisers.
        steps: Adam steps, each on ``batch_size`` random rows.
        lr: learning rate, falling to zero by a cosine.
        seed: of the rows and the noise; torch's own generators are left as they were.

    Returns:
        The mean loss of every hundred steps, summed over the priors.

    Raises:
        ValueError: no step, no row a step, or a learning rate that is not positive.
    """
    if steps < 1 or batch_size < 1 or not lr > 0:
        raise ValueError(f"fit_prior needs steps and batch_size of 1 or more and lr > 0, got {steps}, {batch_size}, {lr}")
    means = _posterior_means(method, train)
    history = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        method.model.add_diffusion_priors(width)
        priors = method.model.diffusion_priors.to(method.device).train()
        for key, rows in means.items():
            method.model.diffusion_prior(key).standardise_by(rows)
        optimiser = torch.optim.Adam(priors.parameters(), lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            losses = [method.model.diffusion_prior(key).loss(_some(rows, batch_size)).mean() for key, rows in means.items()]
            loss = torch.stack(losses).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            history.append(float(loss.detach()))
    priors.eval()
    return [sum(part) / len(part) for part in (history[i : i + 100] for i in range(0, steps, 100))]


def _posterior_means(method: Method, train: Split) -> dict[str, Tensor]:
    """Posterior means of the rows that have the modality: of z, all modalities' together, and of each w_m."""
    found: dict[str, list[Tensor]] = {}
    training = method.training
    method.eval()
    with torch.no_grad():
        for batch in train.batches(512, device=method.device):
            encoding = method.model.encode(batch)
            for name, q in encoding.shared.items():
                found.setdefault("z", []).append(q.centre[batch.present[name]])
            for name, q in encoding.private.items():
                found.setdefault(f"w_{name}", []).append(q.centre[batch.present[name]])
    method.train(training)
    return {key: torch.cat(parts) for key, parts in found.items()}


def _some(rows: Tensor, count: int) -> Tensor:
    return rows[torch.randint(len(rows), (count,), device=rows.device)]
