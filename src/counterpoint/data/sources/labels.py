"""Number the classes of labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from counterpoint.data.division import PARTS, Flat

UNKNOWN = -1
"""The class of a row whose label is not known."""


def number_labels(parts: Mapping[str, Flat]) -> tuple[dict[str, Flat], dict[str, str]]:
    """Replace text labels by their number in alphabetical order, the same in all
    splits, and those that are masked by −1; the notes say which is which."""
    numbered, notes = {part: dict(parts[part]) for part in PARTS}, {}
    for key in dict.fromkeys(k for part in PARTS for k in parts[part] if k.startswith("label/")):
        found = {part: np.ma.asarray(parts[part][key]) for part in PARTS if key in parts[part]}
        known = {part: ~np.ma.getmaskarray(values) for part, values in found.items()}
        if all(values.dtype.kind == "U" for values in found.values()):
            classes = np.unique(
                np.concatenate([values.data[known[part]] for part, values in found.items()])
            )
            for part, values in found.items():
                numbered[part][key] = np.where(
                    known[part], np.searchsorted(classes, values.data), UNKNOWN
                )
            notes[key] = ", ".join(classes)
        else:
            for part, values in found.items():
                numbered[part][key] = (
                    values.data
                    if known[part].all()
                    else np.where(known[part], values.data, UNKNOWN)
                )
    return numbered, notes
