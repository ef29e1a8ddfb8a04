"""Retrieval: whether z given one modality finds the row's other modality among those of
other rows, with nothing trained or generated.

Rows i and j that have modalities a and b are as near as the cosine s_ij of the
posterior means of z given a_i alone and given b_j alone. Alternatives of row i are the
n_i rows that differ from it in both (captions of one image are no alternatives of each
other). With A_i of them nearer than its own b and T_i as near, the choice between two
is right (n_i − A_i − T_i / 2) / n_i of the time, which is the area under the ROC curve
within the row, as of judges (``matching.py``), and its own b is among the first k with
probability (k − A_i) / (1 + T_i), between 0 and 1, whatever is as near being put in
random order. Guessing comes to ½ and to k / (1 + n_i).
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.metrics.matchers import different
from counterpoint.metrics.matching import forced_choice
from counterpoint.metrics.score import Array, Scores, chosen, seed_of

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.metrics.means import Means

FIRST = (1, 10)
"""Among how many first ones the right value should be."""


def score_retrieval(means: Means, split: Split, *, rows: int = 2000, seed: int = 0) -> Scores:
    """``retrieval/<a>><b>``: how often z given a row's a is nearer to z given its b
    than to z given another row's b, of two (chance a half); ``retrieval@1/<a>><b>`` and
    ``retrieval@10/<a>><b>``: how often its b is among the first 1 and 10 of all. Each
    has its mean over pairs.

    Args:
        means: posterior means of the rows of ``split`` given each modality alone.
        rows: most rows that are compared with each other.
    """
    scores = Scores()
    if len(split.modalities) < 2:
        scores.left_out["retrieval"] = "a single modality has nothing to find"
    found: dict[str, dict[str, Array]] = {}
    chance: dict[str, dict[str, float]] = {}
    for pair in combinations([m.name for m in split.modalities], 2):
        kept = np.flatnonzero(means.present[pair[0]] & means.present[pair[1]])
        kept = kept[chosen(len(kept), rows, seed_of(seed, "retrieval"))]
        others = different(split, pair, kept)
        number = others.sum(1)
        if not number.any():
            scores.left_out[f"retrieval/{','.join(pair)}"] = (
                f"no two held-out rows have both {' and '.join(pair)}, and differ in both"
            )
            continue
        z = [_unit(means.shared[name][kept]) for name in pair]
        guess = {"retrieval": 0.5} | {
            f"retrieval@{k}": float(np.minimum(1, k / (1 + number[number > 0])).mean())
            for k in FIRST
        }
        for way, (given, sought) in {
            f"{pair[0]}>{pair[1]}": z,
            f"{pair[1]}>{pair[0]}": z[::-1],
        }.items():
            hits = {"retrieval": forced_choice(given, sought, others)} | {
                f"retrieval@{k}": among(k, given, sought, others) for k in FIRST
            }
            for name, values in hits.items():
                found.setdefault(name, {})[way] = np.full(len(split), np.nan)
                found[name][way][kept] = values
                chance.setdefault(name, {})[way] = guess[name]
    for name, by_way in found.items():
        scores.add_accuracy(name, by_way)
        scores.add_mean(f"chance/{name}", chance[name])
    return scores


def among(k: int, given: Array, sought: Array, others: Array) -> Array:
    """(n,): with what probability row i of ``sought`` is among the k that are nearest
    to row i of ``given``, of itself and its alternatives; NaN without any.

    Args:
        given, sought: (n, F), of length 1.
        others: (n, n) bool: the alternatives of each row.
    """
    scores = given.astype(np.float64) @ sought.T
    own = scores.diagonal()[:, None]
    nearer, equal = ((scores > own) & others).sum(1), ((scores == own) & others).sum(1)
    return np.where(others.any(1), np.clip((k - nearer) / (1 + equal), 0, 1), np.nan)


def _unit(z: Array) -> Array:
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
