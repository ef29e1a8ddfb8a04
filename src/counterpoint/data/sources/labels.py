"""Number the classes of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from counterpoint.data.division import PARTS, Array, Flat

UNKNOWN = -1
"""The class of a row whose label is not known."""


def number_labels(parts: Mapping[str, Flat]) -> tuple[dict[str, Flat], dict[str, str]]:
    """Replace text labels by their numbers in alphabetical order, the same in all
    splits, and labels that are masked by −1.

    Returns:
        The arrays of each split, and notes that say what the numbers stand for.
    """
    numbered = {part: dict(parts[part]) for part in PARTS}
    notes: dict[str, str] = {}
    keys = dict.fromkeys(key for part in PARTS for key in parts[part])
    for key in [key for key in keys if key.startswith("label/")]:
        labels = {}
        for part in PARTS:
            if key in parts[part]:
                labels[part] = np.ma.asarray(parts[part][key])
        if all(values.dtype.kind == "U" for values in labels.values()):
            classes = np.unique(np.concatenate([_known(values) for values in labels.values()]))
            notes[key] = ", ".join(classes)
            labels = {
                part: np.ma.array(np.searchsorted(classes, values.data), mask=values.mask)
                for part, values in labels.items()
            }
        for part, values in labels.items():
            numbered[part][key] = _filled(values)
    return numbered, notes


def _known(values: np.ma.MaskedArray[Any, Any]) -> Array:
    """The labels that are not masked."""
    return np.asarray(values.data[~np.ma.getmaskarray(values)])


def _filled(values: np.ma.MaskedArray[Any, Any]) -> Array:
    """The labels as they are, or −1 where they are masked."""
    masked = np.ma.getmaskarray(values)
    return np.where(masked, UNKNOWN, values.data) if masked.any() else np.asarray(values.data)
