"""Refinement: how much of what the encoders leave to gain the refiner gains, step by
step, beside gradient ascent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.core.noise import seeded
from counterpoint.inference import approximation, ascended, measured, refined, refiner_of
from counterpoint.metrics.means import device_of
from counterpoint.metrics.score import Scores, chosen, seed_of

if TYPE_CHECKING:
    from counterpoint.core.batch import Batch
    from counterpoint.data import Split
    from counterpoint.methods import Method

ASCENT, RATE = 200, 0.05
"""Steps of gradient ascent, and their rate."""


def score_refinement(
    method: Method, split: Split, *, rows: int = 32, samples: int = 100, seed: int = 0
) -> Scores:
    """``refinement/elbo/all/t0`` to ``tT``: the bound after so many steps of the
    refiner, in nats, mean over rows that have everything, by as many draws as
    ``samples``; ``refinement/elbo/all/ascent``: after two hundred steps of gradient
    ascent from t0, all by the same noise. ``refinement/closed/all/t1`` to ``tT``: the
    share of what ascent gains that the refiner has gained.

    ``given1`` in the place of ``all``: where one modality is given, mean over
        modalities; each one's bounds stand one level below.
    """
    scores = Scores()
    try:
        refiner_of(method.model)
    except ValueError as refusal:
        scores.left_out["refinement"] = str(refusal)
        return scores
    names = tuple(m.name for m in method.modalities)
    if len(split.complete) == 0:
        scores.left_out["refinement"] = "no row has every modality"
        return scores
    kept = split.complete[chosen(len(split.complete), rows, seed_of(seed, "refinement rows"))]
    batch = split.batch(kept, device_of(method))
    generator = torch.Generator().manual_seed(seed_of(seed, "refinement draws"))
    groups = {"all": [names]} | ({"given1": [(name,) for name in names]} if len(names) > 1 else {})
    for label, sets in groups.items():
        found = {}
        for given in sets:
            key = f"refinement/elbo/{label}" + f"/{given[0]}" * (len(sets) > 1)
            try:
                found[given[0]] = _bounds(method, batch.only(given), given, samples, generator)
            except ValueError as refusal:  # a posterior without parameters
                scores.left_out[key] = str(refusal)
        if found:
            _add(scores, label, found, each=len(sets) > 1)
    scores.rest_on(len(kept))
    scores.extra["refinement"] = {"rows": len(kept), "samples": samples, "unit": "nats"}
    return scores


def _bounds(
    method: Method, batch: Batch, given: tuple[str, ...], samples: int, generator: torch.Generator
) -> list[float]:
    """The bound at every step of the refiner, and last that of the ascent."""
    with method.answering() as model, seeded(generator):
        beta = refiner_of(model).beta
        encoding = model.encode(batch)
        start = approximation(model, encoding, given)
        ascent = ascended(model, encoding, given, start, steps=ASCENT, lr=RATE, beta=beta)
        steps = [*refined(model, encoding, given, start).steps, ascent.last]
        return measured(model, encoding, steps, given, samples=samples, beta=beta).mean(1).tolist()


def _add(scores: Scores, label: str, found: dict[str, list[float]], *, each: bool) -> None:
    """The means over sets of bounds and shares, and if ``each`` the bounds of every
    set."""
    *means, ascent = np.mean([*found.values()], 0).tolist()
    names = [*(f"t{t}" for t in range(len(means))), "ascent"]
    for i, name in enumerate(names):
        scores.add(f"refinement/elbo/{label}/{name}", [*means, ascent][i])
        for key, bounds in found.items() if each else ():
            scores.add(f"refinement/elbo/{label}/{name}/{key}", bounds[i])
    if ascent <= means[0]:
        scores.left_out[f"refinement/closed/{label}"] = (
            "gradient ascent gains nothing that could be closed"
        )
        return
    for name, bound in zip(names[1:-1], means[1:], strict=True):
        scores.add(f"refinement/closed/{label}/{name}", (bound - means[0]) / (ascent - means[0]))
