"""Hide values, to see what incomplete data costs: whole modalities of a row, or single
entries of vectors.

The hidden values are chosen by a seed. No row loses everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch

from counterpoint.core.modality import Modality

Array = np.ndarray

Missing = Literal["random", "block"]
"""How values of a modality are hidden: each by chance, or a run of rows."""


def check_fraction(fraction: float, what: str) -> None:
    """Check that a fraction lies in [0, 1]; raise a ValueError if not."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction {fraction} of missing {what} must lie in [0, 1]")


def hidden_rows(
    present: Array, touched: Sequence[int], fraction: float, seed: int, how: Missing
) -> Array:
    """Return which values stay, (N, M) bool.

    A row that would lose everything keeps one of its values.

    Args:
        present: (N, M) bool, which of M modalities each row has.
        touched: numbers of the modalities that may go missing.
        fraction: share of their values to hide.
        how: ``"random"`` or ``"block"``.

    Raises:
        ValueError: a fraction outside [0, 1], or an unknown ``how``.
    """
    check_fraction(fraction, "values")
    if how not in get_args(Missing):
        raise ValueError(f"how={how!r} is unknown; choose one of {', '.join(get_args(Missing))}")
    rows, modalities = present.shape
    luck = np.full(present.shape, 2.0)
    luck[:, [*touched]] = _luck(rows, len(touched), how, np.random.default_rng(seed))
    keep = present & (luck >= fraction)
    luckiest = np.where(present, luck, -1.0).argmax(1)[:, None]
    kept_one = np.arange(modalities) == luckiest
    return keep | (kept_one & ~keep.any(1, keepdims=True))


def _luck(rows: int, columns: int, how: Missing, rng: np.random.Generator) -> Array:
    """Numbers in [0, 1), (rows, columns), of which those below a fraction are missing:
    random, or in each column how far a row is from where its run begins."""
    if how == "random":
        return rng.random((rows, columns))
    place = (np.arange(rows) + rng.integers(rows)) / rows
    return (place[:, None] - rng.permutation(columns) / max(columns, 1)) % 1


def can_have_gaps(modality: Modality) -> bool:
    """Whether single entries of a modality can be hidden: it is a vector of numbers."""
    vector = len(modality.shape) == 1
    return vector and modality.likelihood != "categorical" and not modality.counts


def with_gaps(
    modality: Modality, values: Array, fraction: float, rng: np.random.Generator
) -> Array:
    """Return vectors (N, features) as floats, NaN where an entry is or was hidden."""
    read = replace(modality, gaps=False).read(torch.from_numpy(np.array(values))).numpy().copy()
    luck = np.where(np.isnan(read), -1.0, rng.random(read.shape))
    hidden = (luck < fraction) & (luck < luck.max(1, keepdims=True))
    read[hidden] = np.nan
    return read
