"""Routes: ways from what is observed to what is reconstructed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch

from counterpoint.core import noise


@dataclass(frozen=True)
class Route:
    """One way from what is observed to what is reconstructed.

    Attributes:
        given: modalities whose encoders condition z.
        targets: modalities decoded from it.
        cross_weight: factor on the log-likelihood of targets outside ``given``: 1 when
            all are decoded, (M-1)/n when n of the M-1 others were drawn at random,
            which keeps the sum unbiased.

    >>> Route(("x",), ("x", "y"), cross_weight=0.5).given
    ('x',)
    """

    given: tuple[str, ...]
    targets: tuple[str, ...]
    cross_weight: float = 1.0


Routes = Callable[[tuple[str, ...]], list[Route]]
"""Names of the modalities → the routes of one step (drawn anew each step where they are
random)."""


def everything_to_everything(names: tuple[str, ...]) -> list[Route]:
    """One route: all modalities to all modalities.

    >>> everything_to_everything(("x", "y"))
    [Route(given=('x', 'y'), targets=('x', 'y'), cross_weight=1.0)]
    """
    return [Route(names, names)]


def singles_to_everything(names: tuple[str, ...]) -> list[Route]:
    """Each modality to all modalities: M routes, M² reconstructions.

    >>> [(route.given, route.targets) for route in singles_to_everything(("x", "y"))]
    [(('x',), ('x', 'y')), (('y',), ('x', 'y'))]
    """
    return [Route((name,), names) for name in names]


def singles_to_itself(names: tuple[str, ...]) -> list[Route]:
    """Each modality to itself.

    >>> [(route.given, route.targets) for route in singles_to_itself(("x", "y"))]
    [(('x',), ('x',)), (('y',), ('y',))]
    """
    return [Route((name,), (name,)) for name in names]


@dataclass(frozen=True)
class SinglesToSome:
    """Each modality to itself and to n random others, whose log-likelihoods count
    (M−1)/n times: unbiased for the ELBO, O(M) decodings.

    One random cyclic order serves all sources, so that each decoder gets the same
    number of rows at every step.

    >>> [len(route.targets) for route in SinglesToSome(1)(("x", "y", "z"))]
    [2, 2, 2]
    """

    others: int

    def __call__(self, names: tuple[str, ...]) -> list[Route]:
        size = len(names)
        shifts = (torch.randperm(size - 1, generator=noise.generator())[: self.others] + 1).tolist()
        weight = (size - 1) / self.others
        return [
            Route((name,), (name, *(names[(i + s) % size] for s in shifts)), weight)
            for i, name in enumerate(names)
        ]


@dataclass(frozen=True)
class RandomSubsets:
    """``count`` subsets of two or more, but not all, modalities, drawn anew each step;
    each reconstructs itself (MVAE).

    >>> [len(route.given) for route in RandomSubsets(2)(("x", "y", "z"))]
    [2, 2]
    """

    count: int

    def __call__(self, names: tuple[str, ...]) -> list[Route]:
        proper = []
        for n in range(2, len(names)):
            for s in combinations(names, n):
                proper.append(s)
        chosen = torch.randperm(len(proper), generator=noise.generator())[: self.count].tolist()
        return [Route(proper[i], proper[i]) for i in chosen]
