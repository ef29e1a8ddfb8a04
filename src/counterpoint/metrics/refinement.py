"""Refinement: how much of the gap that encoders leave the refiner closes, step by step,
compared with gradient ascent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.core.noise import seeded
from counterpoint.inference import approximation, ascended, measured, refined, refiner_of
from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.means import device_of
from counterpoint.metrics.sampling import chosen, seed_of
from counterpoint.metrics.score import Metric, Way
from counterpoint.metrics.scores import Scores

if TYPE_CHECKING:
    from counterpoint.core.batch import Batch
    from counterpoint.data import Split
    from counterpoint.methods import Method

ASCENT_STEPS, ASCENT_RATE = 200, 0.05
"""Steps and learning rate of gradient ascent."""


def score_refinement(
    method: Method, split: Split, *, rows: int = 32, samples: int = 100, seed: int = 0
) -> Scores:
    """Score a refiner by the bound after each of its steps.

    - ``refinement/elbo/all/t0`` to ``tT``: the bound after so many steps, in nats, mean
      over complete rows.
    - ``refinement/ascent/all``: the bound after 200 steps of gradient ascent from t0.
    - ``refinement/closed/all/t1`` to ``tT``: the share of the gain of ascent that the
      refiner has.

    All bounds use the same noise. With ``given1`` instead of ``all`` one modality is
    given; the figure is a mean over modalities, and each one's has its name at the end.

    >>> from counterpoint.metrics import score_refinement
    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split = data.test.take(range(8))
    >>> [*score_refinement(method, split).left_out]  # it has no refiner
    ['refinement']

    Args:
        method: a method with a refiner.
        split: the rows, of which the complete ones count.
        rows: most rows.
        samples: draws of each bound.
        seed: chooses rows and draws.
    """
    scores = Scores()
    whole = Metric(group="refinement", kind="refinement")
    try:
        refiner_of(method.model)
    except ValueError as refusal:
        scores.leave_out(whole, str(refusal))
        return scores
    if len(split.complete) == 0:
        scores.leave_out(whole, "no row has every modality")
        return scores
    kept = split.complete[chosen(len(split.complete), rows, seed_of(seed, "refinement rows"))]
    batch = split.batch(kept, device_of(method))
    generator = torch.Generator().manual_seed(seed_of(seed, "refinement draws"))
    names = tuple(m.name for m in method.modalities)
    sets: dict[bool, list[tuple[str, ...]]] = {True: [names]}
    if len(names) > 1:
        sets[False] = [(name,) for name in names]
    for of_all, givens in sets.items():
        _score_sets(scores, method, batch, givens, of_all, samples, generator)
    scores.rest_on(len(kept))
    scores.extra["refinement"] = {"rows": len(kept), "samples": samples, "unit": "nats"}
    return scores


@dataclass(frozen=True)
class _Bounds:
    """Bounds of one set of given modalities: at each step, and after the ascent."""

    steps: list[float]
    ascent: float

    @staticmethod
    def mean(bounds: list[_Bounds]) -> _Bounds:
        return _Bounds(
            np.mean([b.steps for b in bounds], 0).tolist(),
            float(np.mean([b.ascent for b in bounds])),
        )


def _score_sets(
    scores: Scores,
    method: Method,
    batch: Batch,
    sets: list[tuple[str, ...]],
    of_all: bool,
    samples: int,
    generator: torch.Generator,
) -> None:
    """The bounds of all modalities, or of each one alone."""
    metric = partial(
        Metric,
        group="refinement",
        setting="all" if of_all else "given",
        size=None if of_all else 1,
    )
    bounds: dict[Way, _Bounds] = {}
    for given in sets:
        way = Way() if of_all else Way(given)
        try:
            bounds[way] = _bounds(method, batch.only(given), given, samples, generator)
        except ValueError as refusal:  # a posterior without parameters
            scores.leave_out(metric(kind="refinement/elbo").along(way), str(refusal))
    if not bounds:
        return
    mean = _Bounds.mean([*bounds.values()])
    each = {} if of_all else bounds
    for step, bound in enumerate(mean.steps):
        elbo = metric(kind="refinement/elbo", step=step)
        scores.add(elbo, bound)
        for way, of_one in each.items():
            scores.add(elbo.along(way), of_one.steps[step])
    ascent = metric(kind="refinement/ascent")
    scores.add(ascent, mean.ascent)
    for way, of_one in each.items():
        scores.add(ascent.along(way), of_one.ascent)
    gain = mean.ascent - mean.steps[0]
    if gain <= 0:
        reason = "gradient ascent gains nothing that could be closed"
        scores.leave_out(metric(kind="refinement/closed"), reason)
        return
    for step, bound in enumerate(mean.steps[1:], 1):
        scores.add(metric(kind="refinement/closed", step=step), (bound - mean.steps[0]) / gain)


def _bounds(
    method: Method, batch: Batch, given: tuple[str, ...], samples: int, generator: torch.Generator
) -> _Bounds:
    with method.answering() as model, seeded(generator):
        beta = refiner_of(model).beta
        encoding = model.encode(batch)
        start = approximation(model, encoding, given)
        ascent = ascended(
            model, encoding, given, start, steps=ASCENT_STEPS, lr=ASCENT_RATE, beta=beta
        )
        steps = [*refined(model, encoding, given, start).steps, ascent.last]
        bounds = measured(model, encoding, steps, given, samples=samples, beta=beta)
        *of_steps, of_ascent = bounds.mean(1).tolist()
        return _Bounds(of_steps, of_ascent)


def _measure(context: Context) -> Scores:
    options = context.options
    scores = score_refinement(
        context.method,
        context.held_out,
        rows=options.likelihood_rows,
        samples=options.likelihood_samples,
        seed=options.seed,
    )
    scores.mark_few({})
    return scores


GROUP = Group(
    "refinement",
    ("refinement/elbo", "refinement/ascent", "refinement/closed"),
    _measure,
    default="always",
)
