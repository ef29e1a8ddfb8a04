"""Matches: whether generated values belong to what they were generated from, as judges
of pairs see it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.intervals import Array
from counterpoint.metrics.judges import values_of
from counterpoint.metrics.matchers import Matchers, different, forced_choice, paired, unequal
from counterpoint.metrics.means import device_of
from counterpoint.metrics.sampling import chosen, chunks, seed_of
from counterpoint.metrics.score import Metric, Way
from counterpoint.metrics.scores import Chance, Scores

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.metrics.generations import Generations

MATCH_CHANCE = Chance(0.5)
"""Of a choice between two."""

_metric = partial(Metric, group="match")


def score_matches(generations: Generations, *, rows: int = 2000) -> Scores:
    """Score how often generated values match what they were generated from.

    ``match/<a>><b>`` is how often b, generated from a row's a, is nearer to it than to
    another row's a. ``judge/match/<a>><b>`` is the same of the real b. Both have means
    over pairs.

    ``match/unconditional`` is the same of unconditional samples: how often their b is
    nearer to the a of the same sample than to that of another, which differs in both.
    Every prior has its own figure with ``@prior=<prior>``. Chance is a half.

    >>> from counterpoint.metrics import score_matches
    >>> import counterpoint as cp
    >>> from counterpoint.metrics import Generations, Judge, JudgeOptions, Judges, Matchers
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split, classes = data.test.take(range(8)), {"digit": np.arange(10)}
    >>> judges = Judges({m.name: Judge(m, classes, JudgeOptions()) for m in data.modalities})
    >>> generations = Generations(method, split, judges, Matchers({}, {}), samples=8)
    >>> score_matches(generations).metrics  # there is no matching judge
    {}

    Args:
        generations: what the method generates.
        rows: most rows, which are all compared with each other.
    """
    matchers = generations.matchers
    scores = Scores()
    match = _metric(kind="match")
    for pair, reason in matchers.left_out.items():
        scores.leave_out(match.along(Way(pair)), reason)
    if len(generations.split.modalities) < 2:
        scores.leave_out(match, "a single modality has nothing to match")
    generated: dict[Way, Array] = {}
    real: dict[Way, Array] = {}
    for pair in matchers.by_pair:
        choices = _choices(generations, pair, rows)
        if choices is None:
            reason = f"no two held-out rows have both {' and '.join(pair)}, and differ in both"
            scores.leave_out(match.along(Way(pair)), reason)
            continue
        generated |= choices[0]
        real |= choices[1]
    if generated:
        scores.add_accuracy(match, generated, chance=MATCH_CHANCE)
        scores.add_accuracy(_metric(kind="judge/match"), real, chance=MATCH_CHANCE)
    if matchers.by_pair:
        _score_unconditional(scores, generations, rows)
    return scores


def _choices(
    generations: Generations, pair: tuple[str, str], rows: int
) -> tuple[Mapping[Way, Array], Mapping[Way, Array]] | None:
    """The choices of one judge, both ways: of generated and of real values, (N,) each.

    None if no row has an alternative.
    """
    split = generations.split
    matchers = generations.matchers
    kept = paired(split, pair)
    kept = kept[chosen(len(kept), rows, seed_of(generations.seed, "match"))]
    others = different(split, pair, kept)
    if not others.any():
        return None
    generated: dict[Way, Array] = {}
    real: dict[Way, Array] = {}
    for source, target in (pair, pair[::-1]):
        given = _embedded(matchers, split, target, source, kept)
        own = _embedded(matchers, split, source, target, kept)
        seen = generations.singles[source][target]
        drawn = seen.points[source][np.searchsorted(seen.rows, kept)]
        for into, points in ((generated, drawn), (real, own)):
            hits = np.full(len(split), np.nan)
            hits[kept] = forced_choice(points, given, others)
            into[Way((source,), target)] = hits
    return generated, real


def _score_unconditional(scores: Scores, generations: Generations, rows: int) -> None:
    for prior in (None, *generations.method.priors):
        drawn = generations.unconditional(prior)
        hits: dict[Way, Array] = {}
        for a, b in generations.matchers.by_pair:
            of_a = drawn[a].points[b][:rows]
            of_b = drawn[b].points[a][:rows]
            others = unequal(of_a, of_b)
            hits[Way((b,), a)] = forced_choice(of_a, of_b, others)
            hits[Way((a,), b)] = forced_choice(of_b, of_a, others)
        metric = _metric(kind="match", setting="unconditional", prior=prior)
        scores.add_accuracy(metric, hits, each=prior is None, chance=MATCH_CHANCE)


def _embedded(matchers: Matchers, split: Split, source: str, target: str, rows: Array) -> Array:
    """(n, F): the real values of ``target``, embedded by the judge of both."""
    device = device_of(next(iter(matchers.by_pair.values())))
    parts = [
        matchers.places(target, [source], values_of(split, target, part, device))
        for part in chunks(rows, 512)
    ]
    return np.concatenate([part[source] for part in parts])


def _measure(context: Context) -> Scores:
    scores = score_matches(context.generations)
    scores.mark_few({})
    return scores


GROUP = Group(
    "match",
    ("match", "judge/match"),
    _measure,
    needs=("judge",),
    default="unlabelled",
    higher=("match",),
)
