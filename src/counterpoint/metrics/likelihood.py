"""Likelihood of held-out rows, importance-sampled by the method itself."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.intervals import Z95
from counterpoint.metrics.means import device_of
from counterpoint.metrics.sampling import chosen, chunks, seed_of
from counterpoint.metrics.score import Metric
from counterpoint.metrics.scores import Scores

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.methods import Method


def score_likelihood(
    method: Method,
    split: Split,
    *,
    rows: int = 64,
    samples: int = 100,
    seed: int = 0,
    batch_size: int = 64,
    refine: int | None = None,
) -> Scores:
    """Score ``loglik/joint``: the mean of log p(x) over rows, in nats.

    It is of everything that is present in a row, and a lower bound in expectation. The
    priors are those of the objective: a diffusion prior takes no part. If a decoder has
    no exact density, the metric is left out with the reason.

    >>> from counterpoint.metrics import score_likelihood
    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split = data.test.take(range(8))
    >>> [*score_likelihood(method, split, rows=4, samples=5).metrics]
    ['loglik/joint']

    Args:
        method: the method.
        split: the rows.
        rows: most rows.
        samples: importance samples.
        seed: chooses rows and samples.
        batch_size: rows at a time.
        refine: refine posteriors by so many steps before sampling from them.
    """
    scores = Scores()
    device = device_of(method)
    metric = Metric(group="likelihood", kind="loglik/joint")
    kept = chosen(len(split), rows, seed_of(seed, "likelihood"))
    generator = torch.Generator().manual_seed(seed_of(seed, "importance samples"))
    parts = []
    try:
        for part in chunks(kept, batch_size):
            batch = split.batch(part, device)
            parts.append(
                method.log_likelihood(batch, samples=samples, refine=refine, generator=generator)
            )
    except ValueError as refusal:
        scores.leave_out(metric, str(refusal))
        return scores
    values = np.concatenate([part.double().cpu().numpy() for part in parts])
    mean = float(values.mean())
    spread = float("nan")
    if len(values) > 1:
        spread = Z95 * float(values.std(ddof=1)) / len(values) ** 0.5
    interval = (mean - spread, mean + spread) if isfinite(spread) else None
    scores.add(metric, mean, interval=interval, n=len(values))
    scores.extra["likelihood"] = {"rows": len(values), "samples": samples, "unit": "nats"}
    return scores


def _measure(context: Context) -> Scores:
    options = context.options
    scores = score_likelihood(
        context.method,
        context.held_out,
        rows=options.likelihood_rows,
        samples=options.likelihood_samples,
        seed=options.seed,
        refine=options.refine,
    )
    scores.mark_few({})
    return scores


GROUP = Group(
    "likelihood",
    ("loglik/joint",),
    _measure,
    default="always",
    complete=True,
    higher=("loglik/joint",),
)
