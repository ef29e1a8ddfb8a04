"""``fit_prior``: learn the aggregate posterior after training, for any method."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from counterpoint.core import checks
from counterpoint.core.latents import SHARED_KEY, private_key
from counterpoint.data import Split
from counterpoint.data.rows import Rows
from counterpoint.model.fitted_priors import EstimatedPrior, FittedPrior, TrainedPrior
from counterpoint.nn.evaluation import evaluating
from counterpoint.probability.distributions import Posterior
from counterpoint.training.afterwards.history import in_hundreds
from counterpoint.training.trainable import TrainableModel

Item = TypeVar("Item")


@checks.arguments
def fit_prior(
    method: TrainableModel,
    train: Rows,
    *,
    kind: str = "diffusion",
    size: int | None = None,
    fit_to: Literal["means", "samples"] = "means",
    steps: int = 2000,
    batch_size: int = 512,
    lr: float = 1e-3,
    seed: int = 0,
    progress: bool = True,
) -> list[float]:
    """Fit one prior to z and one to each w_m; encoders and decoders stay as they are.

    z is learned from every modality's posterior where the method mixes them, and from
    the posterior given everything elsewhere. The rows are encoded once. What was fitted
    or trained before is replaced, and ``sample`` and ``translate`` use the new priors
    from then on.

    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.MVAE.for_data(data, shared_dim=2, networks=cp.NetworkOptions(width=4))
    >>> train, val = data.train.take(range(32)), data.val.take(range(16))
    >>> losses = method.fit_prior(train, steps=2, progress=False)
    >>> len(losses), method.priors
    (1, ('standard', 'diffusion'))

    Args:
        method: a trained method.
        train: the rows whose posteriors to learn; of a stream,
            :meth:`~counterpoint.data.Stream.sample`.
        kind: ``"diffusion"``, ``"score"``, ``"score-ode"``, ``"flow"``, ``"gmm"``, or
            another of :data:`~counterpoint.model.fitted_priors.FITTED_PRIORS`.
        size: width of the networks, or number of the mixture's components; None for
            512, 512, 512, 128 or 10.
        fit_to: learn posterior ``"means"``, or one of the ``"samples"`` of each row.
        steps: Adam steps, each on ``batch_size`` random rows; a mixture takes none.
        lr: learning rate, falling to zero by a cosine.
        seed: of the rows and the noise; torch's own generators are left as they were.
        progress: show progress bars, on a terminal.

    Returns:
        The mean loss of every hundred steps, summed over the latents; of a mixture, its
        mean negative log-likelihood.

    Raises:
        ValueError: an unknown kind, no step, no row a step, a learning rate that is not
            positive, or fewer rows than components.
    """
    if steps < 1 or batch_size < 1 or not 0 < lr <= 1:
        raise ValueError(
            f"fit_prior needs steps and batch_size of 1 or more and lr in (0, 1], got {steps}, {batch_size}, {lr}"
        )
    checks.whole("seed", seed, 0)
    if fit_to not in ("means", "samples"):
        raise ValueError(f"fit_to={fit_to!r} is unknown; choose 'means' or 'samples'")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        latents = _posteriors(
            method, train.in_memory().read_as(method.modalities), fit_to, progress
        )
        method.model.add_fitted_priors(kind, size)
        made = {key: method.model.fitted_prior(kind, key).to(method.device) for key in latents}
        trained = {key: prior for key, prior in made.items() if isinstance(prior, TrainedPrior)}
        if trained:
            return _train(trained, latents, steps, batch_size, lr, progress)
        return [_estimate(made, latents, seed)]


def _estimate(priors: Mapping[str, FittedPrior], latents: Mapping[str, Tensor], seed: int) -> float:
    """Fit priors that take no gradient steps; the sum of their losses."""
    return sum(
        prior.fit(latents[key], seed)
        for key, prior in priors.items()
        if isinstance(prior, EstimatedPrior)
    )


def _train(
    priors: dict[str, TrainedPrior],
    latents: dict[str, Tensor],
    steps: int,
    batch_size: int,
    lr: float,
    progress: bool,
) -> list[float]:
    history = []
    for key, prior in priors.items():
        prior.train().standardise_by(latents[key])
    optimiser = torch.optim.Adam([p for s in priors.values() for p in s.parameters()], lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in shown(range(steps), "fit", "step", progress):
        losses = [
            prior.standard_loss(prior.standardised(_some(latents[key], batch_size))).mean()
            for key, prior in priors.items()
        ]
        loss = torch.stack(losses).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        history.append(float(loss.detach()))
    for prior in priors.values():
        prior.eval()
    return in_hundreds(history)


def _posteriors(
    method: TrainableModel, train: Split, fit_to: str, progress: bool = False
) -> dict[str, Tensor]:
    """Posterior means or samples of the rows that have something to say: of z, and of
    each w_m."""
    found: dict[str, list[Tensor]] = {}

    def take(key: str, q: Posterior, rows: Tensor) -> None:
        found.setdefault(key, []).append(
            (q.point_estimate if fit_to == "means" else q.rsample())[rows]
        )

    with evaluating(method):
        batches = train.batches(512, device=method.device)
        for batch in shown(batches, "encode", "batch", progress, total=-(-len(train) // 512)):
            encoding = method.model.encode(batch)
            for q, rows in method.model.posterior.aggregated(encoding):
                take(SHARED_KEY, q, rows)
            for name, q in encoding.private.items():
                take(private_key(name), q, batch.present[name])
    return {key: torch.cat(parts) for key, parts in found.items()}


def shown(
    items: Iterable[Item], what: str, unit: str, progress: bool, total: int | None = None
) -> Iterable[Item]:
    """The items, behind a progress bar on a terminal."""
    hidden = not progress or not sys.stderr.isatty()
    return tqdm(
        items,
        desc=what,
        unit=unit,
        total=total,
        disable=hidden,
        dynamic_ncols=True,
        mininterval=0.5,
        file=sys.stderr,
    )


def _some(rows: Tensor, count: int) -> Tensor:
    return rows[torch.randint(len(rows), (count,), device=rows.device)]
