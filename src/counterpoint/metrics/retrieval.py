"""Retrieval: whether z given one modality finds the other modality of the row among
those of other rows. Nothing is trained or generated.

Let s_ij be the cosine of two posterior means: of z given modality a of row i, and of z
given modality b of row j. The alternatives of row i are the n_i rows that differ from
it in both modalities, so that captions of one image are no alternatives of each other.
Let A_i of them be nearer than the row's own b, and T_i equally near. Then:

- a choice between two is right (n_i − A_i − T_i / 2) / n_i of the time. This is the
  area under the ROC curve within the row, as for judges (``matching.py``).
- its own b is among the first k with probability (k − A_i) / (1 + T_i), between 0 and
  1, if ties are put in random order.

Guessing has ½ and k / (1 + n_i).
"""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.intervals import Array
from counterpoint.metrics.matchers import different, forced_choice
from counterpoint.metrics.sampling import chosen, seed_of
from counterpoint.metrics.score import Metric, Way
from counterpoint.metrics.scores import Chance, Scores

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.metrics.means import Means

RETRIEVAL_RANKS = (1, 10)
"""Among how many first ones the right value should be."""

_metric = partial(Metric, group="retrieval")


def score_retrieval(means: Means, split: Split, *, rows: int = 2000, seed: int = 0) -> Scores:
    """Score retrieval of one modality by another.

    ``retrieval/<a>><b>`` is how often z given a row's a is nearer to z given its b than
    to z given another row's b (chance a half). ``retrieval@1/<a>><b>`` and
    ``retrieval@10/<a>><b>`` are how often its b is among the first 1 and 10 of all.
    Each has its mean over pairs.

    >>> from counterpoint.metrics import Means, score_retrieval
    >>> import counterpoint as cp
    >>> x = np.random.default_rng(0).normal(size=(40, 2))
    >>> modalities = cp.Modality("x", (2,), "normal"), cp.Modality("y", (2,), "normal")
    >>> split = cp.data.Split({"x": x, "y": 2 * x}, modalities)
    >>> there = {"x": np.ones(40, bool), "y": np.ones(40, bool)}
    >>> means = Means({"x": x, "y": x}, {}, there, {"x": {}, "y": {}})
    >>> score_retrieval(means, split).metrics["retrieval@1"]
    1.0

    Args:
        means: posterior means of the rows of ``split`` given each modality alone.
        split: the rows.
        rows: most rows, which are compared with each other.
        seed: chooses the rows.
    """
    scores = Scores()
    usual = _metric(kind="retrieval")
    if len(split.modalities) < 2:
        scores.leave_out(usual, "a single modality has nothing to find")
    hits: dict[str, dict[Way, Array]] = {}
    chance: dict[str, dict[Way, float]] = {}
    for pair in combinations([m.name for m in split.modalities], 2):
        kept = np.flatnonzero(means.present[pair[0]] & means.present[pair[1]])
        kept = kept[chosen(len(kept), rows, seed_of(seed, "retrieval"))]
        others = different(split, pair, kept)
        if not others.any():
            reason = f"no two held-out rows have both {' and '.join(pair)}, and differ in both"
            scores.leave_out(usual.along(Way(pair)), reason)
            continue
        z = {name: _unit(means.shared[name][kept]) for name in pair}
        guess = _guesses(others)
        for given, target in (pair, pair[::-1]):
            way = Way((given,), target)
            for kind, values in _hits(z[given], z[target], others).items():
                by_way = hits.setdefault(kind, {})
                by_way[way] = np.full(len(split), np.nan)
                by_way[way][kept] = values
                chance.setdefault(kind, {})[way] = guess[kind]
    for kind, by_way in hits.items():
        scores.add_accuracy(_metric(kind=kind), by_way, chance=Chance.mean(chance[kind]))
    return scores


def _hits(given: Array, sought: Array, others: Array) -> dict[str, Array]:
    ranks = {f"retrieval@{k}": among(k, given, sought, others) for k in RETRIEVAL_RANKS}
    return {"retrieval": forced_choice(given, sought, others), **ranks}


def _guesses(others: Array) -> dict[str, float]:
    """What guessing scores, of rows with these alternatives (n, n)."""
    number = others.sum(1)
    number = number[number > 0]
    ranks = {
        f"retrieval@{k}": float(np.minimum(1, k / (1 + number)).mean()) for k in RETRIEVAL_RANKS
    }
    return {"retrieval": 0.5, **ranks}


def among(k: int, given: Array, sought: Array, others: Array) -> Array:
    """Compute the probability that row i of ``sought`` is among the k nearest to row i
    of ``given``, of itself and its alternatives.

    Args:
        k: the number of nearest ones.
        given, sought: (n, F), of length 1.
        others: (n, n) bool: the alternatives of each row.

    Returns:
        (n,), NaN for rows without alternatives.
    """
    scores = given.astype(np.float64) @ sought.T
    own = scores.diagonal()[:, None]
    nearer = ((scores > own) & others).sum(1)
    equal = ((scores == own) & others).sum(1)
    share = np.clip((k - nearer) / (1 + equal), 0, 1)
    return np.where(others.any(1), share, np.nan)


def _unit(z: Array) -> Array:
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


def _measure(context: Context) -> Scores:
    means = context.means_of(context.sources)
    scores = score_retrieval(means, context.sources, seed=context.options.seed)
    scores.mark_few({})
    return scores


GROUP = Group(
    "retrieval",
    ("retrieval", "retrieval@1", "retrieval@10"),
    _measure,
    default="unlabelled",
    higher=("retrieval", "retrieval@1", "retrieval@10"),
)
