"""Agreement of generated binary values with the real ones: F1 of each row, averaged
over rows.

Values are 1 above a half. For a row with real entries y and generated entries ŷ,
F1 = 2 Σ yŷ / (Σ y + Σ ŷ), and 1 if both are empty ("sample-averaged" F1). "Score-Based
Multimodal Autoencoder" (Wesego and Rooshenas, 2023, https://arxiv.org/abs/2305.15708)
and "Multimodal ELBO with Diffusion Decoders" (2024, https://arxiv.org/abs/2408.16883)
report it for every set of given modalities. Their "none" compares unconditional samples
with unrelated held-out rows. Here that is the chance level.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.metrics.intervals import Array
from counterpoint.metrics.score import Metric, Way
from counterpoint.metrics.scores import Chance, Scores

if TYPE_CHECKING:
    from counterpoint.metrics.generations import Generations
    from counterpoint.metrics.seen import Seen

_metric = partial(Metric, group="coherence", kind="f1")


def score_f1(generations: Generations) -> Scores:
    """Score ``f1/given<n>/<a>+<b>><target>`` and ``f1/self/<target>``.

    They are of each Bernoulli modality, generated from each set of n others and from
    itself. Their means have no modalities in their names. Chance is the F1 of
    unconditional samples against unrelated rows.

    >>> from counterpoint.metrics import score_f1
    >>> import counterpoint as cp
    >>> from counterpoint.metrics import Generations, Judge, JudgeOptions, Judges, Matchers
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split, classes = data.test.take(range(8)), {"digit": np.arange(10)}
    >>> judges = Judges({m.name: Judge(m, classes, JudgeOptions()) for m in data.modalities})
    >>> generations = Generations(method, split, judges, Matchers({}, {}), samples=8)
    >>> score_f1(generations).metrics  # no modality is Bernoulli
    {}
    """
    scores = Scores()
    if not generations.binary:
        return scores
    rows = len(generations.split)
    chance = _chance(generations)
    itself = {
        Way(target=name): _by_row(generations.singles[name][name], rows)
        for name in generations.binary
        if name in generations.singles[name]
    }
    scores.add_accuracy(_metric(setting="self"), itself, chance=chance)
    for size in range(1, len(generations.names)):
        into = _given(generations, size, rows)
        scores.add_accuracy(_metric(setting="given", size=size), into, chance=chance)
    return scores


def _given(generations: Generations, size: int, rows: int) -> dict[Way, Array]:
    """F1 of each row, from every set of ``size`` modalities."""
    sets = {names: seen for names, seen in generations.given.items() if len(names) == size}
    return {
        Way(names, name): _by_row(seen[name], rows)
        for name in generations.binary
        for names, seen in sets.items()
        if name in seen
    }


def _chance(generations: Generations) -> Chance | None:
    """F1 of unconditional samples, by target; the same for every given set."""
    by_target: dict[str, float] = {}
    for name, seen in generations.unconditional().items():
        known = seen.f1[~np.isnan(seen.f1)]
        if name in generations.binary and len(known):
            by_target[name] = float(known.mean())
    if not by_target:
        return None
    return Chance(
        float(np.mean(list(by_target.values()))),
        {Way(target=name): value for name, value in by_target.items()},
    )


def _by_row(seen: Seen, rows: int) -> Array:
    """(N,): F1 of each row, NaN where there is none."""
    by_row = np.full(rows, np.nan)
    by_row[seen.rows] = seen.f1
    return by_row
