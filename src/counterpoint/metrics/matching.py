"""Matches: whether generated values belong to what they were generated from, as judges
of pairs see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from counterpoint.metrics.judges import values_of
from counterpoint.metrics.matchers import Matchers, different, paired, unequal
from counterpoint.metrics.means import device_of
from counterpoint.metrics.score import Array, Scores, chosen, chunks, seed_of

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.metrics.generations import Generations


def score_matches(generations: Generations, *, rows: int = 2000) -> Scores:
    """``match/<a>><b>``: how often b, generated from a row's a, is nearer to it than to
    another row's a, and ``judge/match/<a>><b>``, the same of the real b; each has its
    mean over pairs. ``match_joint`` is the same of unconditional samples: how often
    their b is nearer to the a that was drawn with it than to that of another sample,
    which differs in both; every prior of the method has its own as
    ``match_joint@<prior>``. ``chance/match`` is a half. ``rows`` caps the rows, which
    all are compared with each other.
    """
    split, matchers = generations.split, generations.matchers
    scores = Scores(left_out=dict(matchers.left_out))
    if len(split.modalities) < 2:
        scores.left_out["match"] = "a single modality has nothing to match"
    generated: dict[str, Array] = {}
    real: dict[str, Array] = {}
    for pair in matchers.by_pair:
        kept_rows = paired(split, pair)
        kept_rows = kept_rows[chosen(len(kept_rows), rows, seed_of(generations.seed, "match"))]
        others = different(split, pair, kept_rows)
        if not others.any():
            scores.left_out[f"match/{','.join(pair)}"] = (
                f"no two held-out rows have both {' and '.join(pair)}, and differ in both"
            )
            continue
        for source, target in (pair, pair[::-1]):
            given, own = (
                _placed(matchers, split, *names, kept_rows)
                for names in ((target, source), (source, target))
            )
            seen = generations.singles[source][target]
            drawn = seen.points[source][np.searchsorted(seen.rows, kept_rows)]
            for into, points in ((generated, drawn), (real, own)):
                into[f"{source}>{target}"] = hits = np.full(len(split), np.nan)
                hits[kept_rows] = forced_choice(points, given, others)
    if generated:
        scores.add_accuracy("match", generated)
        scores.add_accuracy("judge/match", real)
    if matchers.by_pair:
        scores.add("chance/match", 0.5)
        _score_joint(scores, generations, rows)
    return scores


def _score_joint(scores: Scores, generations: Generations, rows: int) -> None:
    for suffix, prior in (
        ("", "auto"),
        *((f"@{prior}", prior) for prior in generations.method.priors),
    ):
        drawn = generations.joint(prior)
        hits: dict[str, Array] = {}
        for a, b in generations.matchers.by_pair:
            points = drawn[a].points[b][:rows], drawn[b].points[a][:rows]
            others = unequal(*points)
            for way, (made, given) in {f"{b}>{a}": points, f"{a}>{b}": points[::-1]}.items():
                hits[way] = forced_choice(made, given, others)
        scores.add_accuracy(f"match_joint{suffix}", hits, each=not suffix)


def forced_choice(points: Array, given: Array, others: Array) -> Array:
    """(n,): the part u_i of each row in how often a point is nearer to what it was made
    from than to an alternative; NaN without any.

    Args:
        points, given: (n, F) each; point i was made from ``given`` i.
        others: (n, n) bool, symmetric: the alternatives of each row.
    """
    parts = np.full(len(points), np.nan)
    counted = others.any(1)
    others = others[np.ix_(counted, counted)]
    scores = points[counted].astype(np.float64) @ given[counted].T
    wins = 0.5 + 0.5 * np.sign(scores.diagonal()[:, None] - scores)
    count = others.sum(1, keepdims=True)
    share = (wins * others).sum(1, keepdims=True) / count
    parts[counted] = share[:, 0] + ((wins - share) * others / count).sum(0)
    return parts


def _placed(matchers: Matchers, split: Split, source: str, target: str, rows: Array) -> Array:
    """(n, F): the real values of ``target``, as the judge of both places them."""
    device = device_of(next(iter(matchers.by_pair.values())))
    parts = [
        matchers.places(target, [source], values_of(split, target, part, device))
        for part in chunks(rows, 512)
    ]
    return np.concatenate([part[source] for part in parts])
