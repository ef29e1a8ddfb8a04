"""Likelihood of held-out rows, importance-sampled by the method itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.metrics.means import device_of
from counterpoint.metrics.score import Z95, Scores, chosen, chunks, seed_of

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
    """``loglik/joint``: mean over rows of log p(x), in nats, of what is present in each
    row; a lower bound in expectation.

    With ``refine``, samples come from posteriors refined by so many steps.

    The priors are those of the objective: a diffusion prior takes no part. A method
        that refuses (a decoder without an exact density) leaves the metric out, with
        its reason.
    """
    scores = Scores()
    device = device_of(method)
    kept = chosen(len(split), rows, seed_of(seed, "likelihood"))
    generator = torch.Generator().manual_seed(seed_of(seed, "importance samples"))
    try:
        found = [
            method.log_likelihood(
                split.batch(part, device), samples=samples, refine=refine, generator=generator
            )
            .double()
            .cpu()
            .numpy()
            for part in chunks(kept, batch_size)
        ]
    except ValueError as refusal:
        scores.left_out["loglik/joint"] = str(refusal)
        return scores
    values = np.concatenate(found)
    spread = (
        Z95 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    )
    mean = float(values.mean())
    scores.add(
        "loglik/joint", mean, (mean - spread, mean + spread) if np.isfinite(spread) else None
    )
    scores.rest_on(len(values))
    scores.extra["likelihood"] = {"rows": len(values), "samples": samples, "unit": "nats"}
    return scores
