"""Which rows and which modality a figure shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.figures.drawable import Drawable

_INCOMPLETE = "no row has every modality; pictures compare modalities of one row"


def complete_rows(
    split: Split, n: int, labels: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Draw at most ``n`` complete rows at random, spread over the classes of ``labels``.

    Raises:
        ValueError: no row has every modality.
    """
    complete = split.complete
    if not len(complete):
        raise ValueError(_INCOMPLETE)
    complete = np.random.default_rng(seed).permutation(complete)
    if labels is not None:
        classes = np.asarray(labels)[complete]
        turn = np.zeros(len(complete), np.int64)  # how many rows of the same class came before
        for value in np.unique(classes):
            here = classes == value
            turn[here] = np.arange(here.sum())
        complete = complete[np.lexsort((classes, turn))]
    return complete[:n]


def complete_batch(
    method: Drawable,
    rows: Split | Batch,
    n: int,
    *,
    private_of: str | None = None,
    seed: int = 0,
) -> Batch:
    """Take at most ``n`` complete rows, on the method's device: of a batch the first
    ones, of a split random ones.

    Args:
        method: the method.
        rows: to choose from.
        n: the most rows.
        private_of: spread the rows of a split over the first private label of this
            modality; over the first shared label by default.
        seed: chooses the rows of a split.

    Raises:
        ValueError: no row has every modality.
    """
    if isinstance(rows, Batch):
        complete = torch.stack([*rows.present.values()]).all(0).nonzero().squeeze(1)[:n]
        if not len(complete):
            raise ValueError(_INCOMPLETE)
        return rows[complete].to(method.device)
    labels = rows.shared_labels
    if private_of is not None:
        labels = {k: v[private_of] for k, v in rows.private_labels.items() if private_of in v}
    chosen = complete_rows(rows, n, next(iter(labels.values()), None), seed)
    return rows.batch(chosen, device=method.device)


def has_complete_rows(split: Split) -> bool:
    """Whether some row has every modality."""
    return len(split.complete) > 0


def chosen_modality(method: Drawable, name: str | None) -> Modality:
    """The named modality; by default the first image, or the first of all."""
    known = {m.name: m for m in method.modalities}
    if name is None:
        return next((m for m in method.modalities if len(m.shape) == 3), method.modalities[0])
    if name not in known:
        raise ValueError(f"unknown modality {name!r}; choose one of {', '.join(known)}")
    return known[name]
