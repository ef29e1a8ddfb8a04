"""Retrieval: whether z given one modality finds the row's other modality among those of other rows, with nothing trained or generated.

Rows i and j that have modalities a and b are as near as the cosine s_ij of the posterior means of z given a_i alone and given b_j alone. Alternatives of row i
are the rows that differ from it in both (captions of one image are no alternatives of each other), and its rank is 1 + #{j: s_ij > s_ii}, equals counting a
half. Like judges' (``matching.py``), the choice between two is the area under the ROC curve within each row.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from .matching import different, forced_choice
from .scores import Array, Scores, chosen, seed_of

if TYPE_CHECKING:
    from ..data import Split
    from .latents import Means

FIRST = (1, 10)
"""Among how many first ones the right value should be."""


def score_retrieval(means: Means, split: Split, *, rows: int = 2000, seed: int = 0) -> Scores:
    """``retrieval/<a>><b>``: how often z given a row's a is nearer to z given its b than to z given another row's b, of two (chance a half);
    ``retrieval@1/<a>><b>`` and ``retrieval@10/<a>><b>``: how often its b is among the first 1 and 10 of all. Each has its mean over pairs.

    Args:
        means: posterior means of the rows of ``split`` given each modality alone.
        rows: most rows that are compared with each other.
    """
    scores = Scores()
    if len(split.modalities) < 2:
        scores.left_out["retrieval"] = "a single modality has nothing to find"
    hits: dict[str, dict[str, Array]] = {}
    chance: dict[str, list[float]] = {}
    for pair in combinations([m.name for m in split.modalities], 2):
        kept = np.flatnonzero(means.present[pair[0]] & means.present[pair[1]])
        kept = kept[chosen(len(kept), rows, seed_of(seed, "retrieval"))]
        others = different(split, pair, kept)
        if not others.any():
            scores.left_out[f"retrieval/{','.join(pair)}"] = f"no two held-out rows have both {' and '.join(pair)}, and differ in both"
            continue
        a, b = (_unit(means.shared[name][kept]) for name in pair)
        for way, (given, sought) in {f"{pair[0]}>{pair[1]}": (a, b), f"{pair[1]}>{pair[0]}": (b, a)}.items():
            found = {"retrieval": forced_choice(given, sought, others)}
            rank = ranks(given, sought, others)
            found |= {f"retrieval@{k}": np.where(others.any(1), rank <= k, np.nan) for k in FIRST}
            for name, values in found.items():
                hits.setdefault(name, {})[way] = np.full(len(split), np.nan)
                hits[name][way][kept] = values
            for k in FIRST:
                chance.setdefault(f"chance/retrieval@{k}", []).append(float(np.minimum(1, k / (1 + others.sum(1))).mean()))
    for name, by_way in hits.items():
        scores.add_accuracy(name, by_way)
    for name, each in chance.items():
        scores.add(name, float(np.mean(each)))
    if hits:
        scores.add("chance/retrieval", 0.5)
    return scores


def ranks(given: Array, sought: Array, others: Array) -> Array:
    """(n,): the place, from 1, of row i of ``sought`` in the order of nearness to row i of ``given``, among itself and its alternatives.

    Args:
        given, sought: (n, F), of length 1.
        others: (n, n) bool: the alternatives of each row.
    """
    scores = given.astype(np.float64) @ sought.T
    return 1 + ((0.5 + 0.5 * np.sign(scores - scores.diagonal()[:, None])) * others).sum(1)


def _unit(z: Array) -> Array:
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
