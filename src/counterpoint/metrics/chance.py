"""Chance of labels: the frequency of the majority class, and how rare the rarest is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from counterpoint.metrics.intervals import Array
from counterpoint.metrics.means import labels_of
from counterpoint.metrics.score import Way
from counterpoint.metrics.scores import Chance

if TYPE_CHECKING:
    from counterpoint.data import Split


def majority_classes(*splits: Split) -> dict[str, Chance]:
    """Compute the frequency of the majority class of each label.

    The rows of all splits are pooled. Rows count where the modality is present and the
    label is known. The mean is over modalities, and each modality's is kept (as what is
    given).

    >>> import counterpoint as cp
    >>> from counterpoint.metrics import majority_classes
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> round(majority_classes(data.test)["digit"].value, 2)
    0.11
    """
    chances = {}
    for label, by_modality in _class_counts(splits).items():
        frequency = {
            Way((name,)): float(counts.max() / counts.sum()) for name, counts in by_modality.items()
        }
        if (chance := Chance.mean(frequency)) is not None:
            chances[label] = chance
    return chances


def smallest_classes(*splits: Split) -> dict[str, int]:
    """Count the rows of the smallest class of each label in any modality.

    >>> import counterpoint as cp
    >>> from counterpoint.metrics import smallest_classes
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> smallest_classes(data.train)
    {'digit': 110, 'quadrant': 240}
    """
    return {
        label: int(min(counts.min() for counts in by_modality.values()))
        for label, by_modality in _class_counts(splits).items()
    }


def _class_counts(splits: tuple[Split, ...]) -> dict[str, dict[str, Array]]:
    """Count the rows of each class, by label and modality, without empty ones."""
    known: dict[str, dict[str, list[Array]]] = {}
    for split in splits:
        for modality, present in split.present.items():
            for label, values in labels_of(split, modality).items():
                parts = known.setdefault(label, {}).setdefault(modality, [])
                parts.append(values[present & (values >= 0)])
    counts: dict[str, dict[str, Array]] = {}
    for label, by_modality in known.items():
        for modality, parts in by_modality.items():
            values = np.concatenate(parts)
            if len(values):
                counts.setdefault(label, {})[modality] = np.unique(values, return_counts=True)[1]
    return counts
