"""Seeds and random rows: what makes an evaluation repeatable."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import numpy as np

from counterpoint.metrics.intervals import Array


def seed_of(seed: int, purpose: str) -> int:
    """Derive an independent seed for each purpose.

    No metric's numbers then depend on which other metrics are measured.

    >>> seed_of(0, "folds") == seed_of(0, "partners")
    False
    """
    return int(np.random.SeedSequence([seed, crc32(purpose.encode())]).generate_state(1)[0])


def chosen(rows: int, most: int | None, seed: int) -> Array:
    """Draw ``min(rows, most)`` of ``rows`` indices at random, sorted.

    All indices are returned when ``most`` is None.

    >>> chosen(3, 5, seed=0)
    array([0, 1, 2])
    """
    if most is None or rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def chunks(rows: Array, size: int) -> Iterable[Array]:
    """Cut row indices into consecutive chunks of at most ``size``.

    >>> [len(chunk) for chunk in chunks(np.arange(5), 2)]
    [2, 2, 1]
    """
    return (rows[start : start + size] for start in range(0, len(rows), size))
