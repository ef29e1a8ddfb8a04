"""Which rows and which modality a figure shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.methods import Method


def complete_rows(
    split: Split, n: int, labels: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Draw at most ``n`` complete rows at random, spread over the classes of ``labels``.

    Raises:
        ValueError: no row has every modality.
    """
    complete = split.complete
    if not len(complete):
        raise ValueError(
            "no row of this split has every modality; pictures compare modalities of one row"
        )
    complete = np.random.default_rng(seed).permutation(complete)
    if labels is not None:
        classes = np.asarray(labels)[complete]
        turn = np.zeros(len(complete), np.int64)  # how many rows of the same class came before
        for value in np.unique(classes):
            here = classes == value
            turn[here] = np.arange(here.sum())
        complete = complete[np.lexsort((classes, turn))]
    return complete[:n]


def has_complete_rows(split: Split) -> bool:
    """Whether some row has every modality."""
    return len(split.complete) > 0


def batch_of(method: Method, split: Split, rows: np.ndarray) -> Batch:
    """Rows of a split, on the method's device."""
    return split.batch(rows, device=next(method.parameters()).device)


def chosen_modality(method: Method, name: str | None) -> Modality:
    """The named modality; by default the first image, or the first of all."""
    known = {m.name: m for m in method.modalities}
    if name is None:
        return next((m for m in method.modalities if len(m.shape) == 3), method.modalities[0])
    if name not in known:
        raise ValueError(f"unknown modality {name!r}; choose one of {', '.join(known)}")
    return known[name]
