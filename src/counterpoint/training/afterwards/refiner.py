"""``fit_refiner``: learn to refine the posteriors of a trained method."""

from __future__ import annotations

import math

import numpy as np
import torch

from counterpoint.core import checks
from counterpoint.data import Split
from counterpoint.data.rows import Rows
from counterpoint.inference import Refiner, RefinerOptions
from counterpoint.objectives.afterwards import RefinerLoss
from counterpoint.probability.distributions import Diagonal
from counterpoint.training.afterwards.history import in_hundreds
from counterpoint.training.afterwards.prior import shown
from counterpoint.training.result import NonFiniteLoss
from counterpoint.training.trainable import TrainableModel


@checks.arguments
def fit_refiner(
    method: TrainableModel,
    train: Rows,
    *,
    refiner: RefinerOptions | None = None,
    beta: float = 1.0,
    steps: int = 1000,
    batch_size: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
    progress: bool = True,
) -> list[float]:
    """Fit a network that refines posteriors. Encoders and decoders stay as they are.

    It minimises the mean of −ELBO over its steps. Every other row misses random
    modalities, so that the refiner learns to refine the posterior given any set. If
    posteriors of some modalities have no parameters, such as JNF's flows, it learns
    from complete rows alone.

    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.MVAE.for_data(data, shared_dim=2, networks=cp.NetworkOptions(width=4))
    >>> train, val = data.train.take(range(32)), data.val.take(range(16))
    >>> losses = method.fit_refiner(train, steps=1, batch_size=8, progress=False)
    >>> len(losses), [addition.kind for addition in method.additions]
    (1, ['refiner'])

    Args:
        method: a trained method.
        train: the rows whose posteriors to refine; of a stream,
            :meth:`~counterpoint.data.Stream.sample`.
        refiner: its steps, signals and sizes; the defaults if None.
        beta: weight β of the divergence in the ELBO.
        steps: Adam steps.
        batch_size: rows of a step.
        lr: learning rate, falling to zero by a cosine.
        seed: of the rows and the noise; torch's own generators are left as they were.
        progress: show a progress bar, on a terminal.

    Returns:
        The mean loss of every hundred steps.

    Raises:
        ValueError: no step, no row a step, a learning rate that is not positive, or
            posteriors that have no parameters to refine.
        NonFiniteLoss: the bound is NaN or infinite. After any error the method is as it
            was.
    """
    if steps < 1 or batch_size < 1 or not 0 < lr <= 1:
        raise ValueError(
            f"fit_refiner needs steps and batch_size of 1 or more and lr in (0, 1], got {steps}, {batch_size}, {lr}"
        )
    checks.whole("seed", seed, 0)
    before = method.model.refiner
    training = method.training
    method.eval()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            loss, rows = _loss(method, train.in_memory().read_as(method.modalities))
            fresh = Refiner(
                method.modalities, method.model.latents, refiner or RefinerOptions(), beta=beta
            ).to(next(method.parameters()))
            method.model.put_refiner(fresh)
            history = _train(method, fresh, loss, rows, steps, batch_size, lr, seed, progress)
    except BaseException:
        method.model.put_refiner(before)
        raise
    finally:
        method.train(training)
    return in_hundreds(history)


def _train(
    method: TrainableModel,
    refiner: Refiner,
    loss: RefinerLoss,
    rows: Split,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    progress: bool,
) -> list[float]:
    optimiser = torch.optim.Adam(refiner.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = np.random.default_rng(seed)
    history = []
    for step in shown(range(steps), "fit", "step", progress):
        encoding = method.model.encode(
            rows.batch(rng.integers(len(rows), size=batch_size), method.device)
        )
        mean = loss.terms(method.model, encoding)["refine"].mean()
        history.append(float(mean.detach()))
        if not math.isfinite(history[-1]):
            raise NonFiniteLoss("refine", step, history[-1])
        optimiser.zero_grad()
        mean.backward(inputs=[*refiner.parameters()])
        optimiser.step()
        schedule.step()
    return history


def _loss(method: TrainableModel, train: Split) -> tuple[RefinerLoss, Split]:
    """The loss of a refiner and the rows to learn from: all, or the complete ones if
    posteriors of some modalities have no parameters."""
    with torch.no_grad():
        experts = method.model.encode(train.batch(np.arange(1), method.device)).shared.values()
    if all(isinstance(q, Diagonal) for q in experts):
        return RefinerLoss(), train
    if len(train.complete) == 0:
        raise ValueError(
            f"no row has every modality, and posteriors of some of them have no parameters to refine in {method.name}"
        )
    return RefinerLoss(subsets=False), train.take(train.complete)
