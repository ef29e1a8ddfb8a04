"""Matching judges: whether generated values match their source, without labels.

For each pair of modalities two towers embed values on one sphere. A tower is a trunk of
a judge with a linear map. Real pairs (a_i, b_i) train them by symmetric InfoNCE
(van den Oord et al., "Representation learning with contrastive predictive coding",
2018, https://arxiv.org/abs/1807.03748; in both directions, Radford et al., "Learning
transferable visual models from natural language supervision", 2021,
https://arxiv.org/abs/2103.00020): with the cosine s_ij of a_i and b_j and a learned
temperature τ, loss = −½ mean_i [ log softmax_j(s_ij / τ)_i + log softmax_j(s_ji / τ)_i
]. Rows that share their a or their b (captions of one image, faces of the same
attributes) are no negatives of each other.

A judge then makes a two-alternative forced choice, which is the area under the ROC
curve within each row. It compares b̂_i, generated from a_i, with a_i and with the a_j
of another row. p_i is the share of the other rows j with s(b̂_i, a_i) > s(b̂_i, a_j),
where ties count a half. Each row takes part by its own choices and as an alternative of
others, so its part in the mean is u_i = p_i + Σ_k (win_ki − p_k) / n_k over the
n_k alternatives of each row k (Hájek's projection; DeLong et al., "Comparing the areas
under two or more correlated receiver operating characteristic curves", 1988,
https://doi.org/10.2307/2531595). The u_i have the mean of the p_i, and the intervals
rest on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.metrics.intervals import Array
from counterpoint.metrics.judge_fitting import JudgeOptions, cached_weights, optimise, shuffled
from counterpoint.metrics.judges import Judge, values_of
from counterpoint.metrics.sampling import chosen, seed_of
from counterpoint.metrics.seen import decided

if TYPE_CHECKING:
    from counterpoint.core.modality import Modality
    from counterpoint.data import Dataset, Split


class Matcher(nn.Module):
    """Two towers that embed a pair of modalities on one sphere."""

    def __init__(self, pair: tuple[Modality, Modality], options: JudgeOptions) -> None:
        super().__init__()
        self.names = pair[0].name, pair[1].name
        self.a, self.b = (Judge(m, {}, options) for m in pair)
        self.onto_a, self.onto_b = (nn.Linear(options.features, options.features) for _ in pair)
        self.log_scale = nn.Parameter(torch.tensor(log(10.0)))

    def place(self, name: str, values: Tensor) -> Tensor:
        """Embed values of one of the two modalities.

        Args:
            name: the modality.
            values: (B, *shape), or probabilities (B, length, classes) of words.

        Returns:
            (B, F), of length 1.
        """
        first = name == self.names[0]
        tower = self.a if first else self.b
        onto = self.onto_a if first else self.onto_b
        return F.normalize(onto(tower.features(decided(values, tower.modality))), dim=1)

    def loss(self, values: tuple[Tensor, Tensor], others: Tensor) -> Tensor:
        """Compute the symmetric InfoNCE of B pairs.

        Args:
            values: of both modalities, (B, *shape) each.
            others: (B, B) bool, which rows are negatives of which.
        """
        a, b = (self.place(name, side) for name, side in zip(self.names, values, strict=True))
        own = torch.arange(len(a), device=a.device)
        allowed = others.to(a.device) | torch.eye(len(a), dtype=torch.bool, device=a.device)
        scores = (self.log_scale.clamp(max=log(100.0)).exp() * a @ b.T).masked_fill(
            ~allowed, -torch.inf
        )
        return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


@dataclass(frozen=True)
class Matchers:
    """The matching judge of every pair of modalities that has one.

    >>> from counterpoint.metrics import Matchers
    >>> Matchers({}, {("x", "y"): "too few rows"}).left_out
    {('x', 'y'): 'too few rows'}

    Args:
        by_pair: the judges.
        left_out: by pair without a judge, the reason.
    """

    by_pair: dict[tuple[str, str], Matcher]
    left_out: dict[tuple[str, str], str]

    @torch.no_grad()
    def places(self, name: str, others: Sequence[str], values: Tensor) -> dict[str, Array]:
        """Embed n values of a modality by the judge of each pair that it is in.

        Args:
            name: the modality.
            others: the other modalities of the pairs.
            values: real or generated.

        Returns:
            By other modality, (n, F); without pairs that have no judge.
        """
        matchers = {
            other: self.by_pair.get((other, name)) or self.by_pair.get((name, other))
            for other in others
        }
        return {
            other: matcher.place(name, values).float().cpu().numpy()
            for other, matcher in matchers.items()
            if matcher is not None
        }


def train_matchers(
    data: Dataset,
    *,
    options: JudgeOptions | None = None,
    seed: int = 0,
    cache: Path | None = None,
    device: torch.device | None = None,
) -> Matchers:
    """Train a matching judge for each pair of modalities, with early stopping on the
    validation split.

    Rows of the train split that have both modalities are used. The global random state
    is restored.

    >>> import counterpoint as cp
    >>> from counterpoint.metrics import JudgeOptions, train_matchers
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> matchers = train_matchers(data, options=JudgeOptions(steps=1))
    >>> [*matchers.by_pair]
    [('view0', 'view1')]

    Args:
        data: the data set.
        options: sizes and training.
        seed: of initial weights and batches.
        cache: a folder that keeps trained judges, by the data's checksum, architecture
            and seed.
        device: where to train.
    """
    options = options or JudgeOptions()
    device = device or torch.device("cpu")
    checksum = "" if cache is None else data.checksum()
    matchers: dict[tuple[str, str], Matcher] = {}
    left_out: dict[tuple[str, str], str] = {}
    for pair in combinations(data.modalities, 2):
        a, b = names = (pair[0].name, pair[1].name)
        if len(paired(data.train_split, names)) < 2:
            left_out[names] = f"fewer than two training rows have both {a} and {b}"
            continue
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(seed, f"match/{a},{b}"))
            matcher = Matcher(pair, options).to(device)
            described = {
                "pair": [m.identity() for m in pair],
                "data": checksum,
                "options": asdict(options),
                "seed": seed,
            }
            with cached_weights(matcher, cache, "match", described) as known:
                if not known:
                    _fit(matcher, data, options, seed, device)
        matchers[names] = matcher
    return Matchers(matchers, left_out)


def different(split: Split, names: tuple[str, str], rows: Array) -> Array:
    """Compare rows: (n, n) bool, whether two differ in both of two modalities."""
    return unequal(*(split.x[name][rows] for name in names))


def unequal(*values: Array) -> Array:
    """Compare rows: (n, n) bool, whether two differ in each of some arrays (n, ...)."""
    numbers = []
    for array in values:
        known: dict[bytes, int] = {}
        numbers.append(np.array([known.setdefault(value.tobytes(), len(known)) for value in array]))
    return np.logical_and.reduce([number[:, None] != number for number in numbers])


def forced_choice(points: Array, given: Array, others: Array) -> Array:
    """Compute each row's part u_i in how often a point is nearer to its source than to
    an alternative.

    Args:
        points, given: (n, F) each; point i was generated from ``given`` i.
        others: (n, n) bool, symmetric: the alternatives of each row.

    Returns:
        (n,), NaN for rows without alternatives.
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


def _fit(
    matcher: Matcher, data: Dataset, options: JudgeOptions, seed: int, device: torch.device
) -> None:
    rng = np.random.default_rng(seed_of(seed, f"pairs/{','.join(matcher.names)}"))
    rows = paired(data.train_split, matcher.names)
    held = paired(data.val, matcher.names)
    held = held[chosen(len(held), 1000, seed)]
    for name, tower in zip(matcher.names, (matcher.a, matcher.b), strict=True):
        tower.standardise(
            values_of(
                data.train_split,
                name,
                np.sort(rng.choice(rows, min(len(rows), 2000), replace=False)),
                device,
            )
        )

    def loss(split: Split, part: Array) -> Tensor:
        a, b = (values_of(split, name, part, device) for name in matcher.names)
        return matcher.loss((a, b), torch.from_numpy(different(split, matcher.names, part)))

    held_loss = (lambda: loss(data.val, held)) if len(held) > 1 else None
    optimise(
        matcher,
        (loss(data.train_split, part) for part in shuffled(rows, options.batch_size, rng)),
        held_loss,
        options,
    )


def paired(split: Split, names: tuple[str, str]) -> Array:
    """Find the rows that have both modalities."""
    return np.flatnonzero(split.present[names[0]] & split.present[names[1]])
