"""Divide rows into train, val and test, or into folds.

All divisions are fixed by a seed. A group, such as a class, gets its share in every
part.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

Array = np.ndarray

Flat = dict[str, Array]
"""Arrays by name."""

Fractions = tuple[float, float, float]
"""Shares of train, val and test."""

DEFAULT_FRACTIONS: Fractions = (0.8, 0.1, 0.1)
"""Where a source has no splits."""

PARTS = ("train", "val", "test")

PART_NAMES = {
    "train": "train",
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    "test": "test",
}
"""Names of splits in sources that are split, and what they mean."""


def check_fractions(fractions: Fractions) -> None:
    """Check that the shares are positive and sum to 1; raise a ValueError if not."""
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"fractions {fractions} of train, val and test must be positive and sum to 1"
        )


def group_numbers(values: Array | Sequence[str]) -> Array:
    """Return numbers (N,) that are alike where the values are.

    >>> group_numbers(["b", "a", "b"])
    array([1, 0, 1])
    """
    return np.unique(np.asarray(values), return_inverse=True)[1].reshape(-1)


def named_parts(where: object, names: Sequence[str]) -> dict[str, str]:
    """Return by split the name that it has in a source.

    >>> named_parts("a.npz", ["train", "dev"])
    {'train': 'train', 'val': 'dev'}

    Raises:
        ValueError: a name that means no split, two that mean the same, or no train.
    """
    unknown = [name for name in names if name not in PART_NAMES]
    if unknown:
        raise ValueError(f"{where}: {unknown[0]!r} names no split; expected train, val and test")
    by_part: dict[str, str] = {}
    for name in names:
        if (other := by_part.setdefault(PART_NAMES[name], name)) != name:
            raise ValueError(
                f"{where} has both {other} and {name}, which mean the same split; leave one of them"
            )
    if "train" not in by_part:
        raise ValueError(
            f"{where} has {', '.join(by_part)} but no train; give train, or no splits to have them made"
        )
    return {part: by_part[part] for part in PARTS if part in by_part}


def with_all_parts(
    where: object, parts: Mapping[str, Flat], fractions: Fractions, seed: int
) -> tuple[dict[str, Flat], dict[str, str]]:
    """Return the arrays of the three splits, and notes on those that were held out.

    A split that is missing is held out from train, alike in every class of the first
    shared label.

    Raises:
        ValueError: train without arrays, or with arrays of different lengths.
    """
    if not parts["train"]:
        raise ValueError(f"{where}: train holds no arrays; give at least one modality")
    splits = {part: dict(flat) for part, flat in parts.items()}
    notes = dict[str, str]()
    for part, share in zip(PARTS[1:], fractions[1:], strict=True):
        if part in splits:
            continue
        train = splits["train"]
        groups = _label_groups(train)
        lengths = {key: len(values) for key, values in train.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{where}: arrays of train have different numbers of rows: {lengths}")
        out, notes[part] = held_out(where, part, groups, share, seed)
        splits[part] = {key: values[np.flatnonzero(out)] for key, values in train.items()}
        splits["train"] = {key: values[np.flatnonzero(~out)] for key, values in train.items()}
    return {part: splits[part] for part in PARTS}, notes


def _label_groups(flat: Flat) -> Array:
    """Numbers (N,) of the classes of the first shared label; zeros without any."""
    for key, values in flat.items():
        if key.startswith("label/") and key.count("/") == 1:
            return group_numbers(values)
    return np.zeros(len(next(iter(flat.values()))), int)


def held_out(where: object, part: str, groups: Array, share: float, seed: int) -> tuple[Array, str]:
    """Choose the rows of train that become a split that a source does not have.

    A warning says so.

    Args:
        groups: (N,) numbers: of each as large a share is taken as rows allow.
        share: of the rows; at least one is taken, and one left.

    Returns:
        Which rows were chosen, (N,) bool, and a note that says how many.

    Raises:
        ValueError: a single row, or a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"fractions: the share {share} of {part} must lie between 0 and 1")
    if len(groups) < 2:
        raise ValueError(
            f"{where} has no {part} split and {len(groups)} row of train, too few to hold one out; give {part}"
        )
    order = shuffled(groups, seed)
    count = min(len(groups) - 1, max(1, round(share * len(groups))))
    out = np.zeros(len(groups), bool)
    out[
        order[
            np.linspace(0, len(order), count, endpoint=False, dtype=int) + len(order) // (2 * count)
        ]
    ] = True  # evenly spaced
    note = f"{count:,} of {len(groups):,} train rows, held out by the seed {seed}"
    warnings.warn(f"{where} has no {part} split: {note}", stacklevel=4)
    return out, note


def shuffled(groups: Array, seed: int) -> Array:
    """Return an order (N,) that goes through one group after the other, each at random.

    Rows that are taken from it at even distances have of every group its share.
    """
    return np.lexsort((np.random.default_rng(seed).random(len(groups)), groups))


def folds(groups: Array, count: int, seed: int) -> Array:
    """Return the fold of each observation, (N,), from 0 to ``count`` − 1.

    In every group, folds differ by at most one.
    """
    fold = np.empty(len(groups), int)
    fold[shuffled(groups, seed)] = np.arange(len(groups)) % count
    return fold


def divided_arrays(flat: Flat, fractions: Fractions, seed: int) -> dict[str, Flat]:
    """Divide arrays into train, val and test at random; each gets at least one row.

    Raises:
        ValueError: no arrays, or arrays of different lengths.
    """
    lengths = {key: len(values) for key, values in flat.items()}
    if not lengths:
        raise ValueError("no arrays given; give at least one modality")
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"arrays have different numbers of rows: {lengths}; mark missing rows in 'present' instead of leaving them out"
        )
    parts = divided(next(iter(lengths.values())), fractions, seed)
    return {
        part: {key: values[index] for key, values in flat.items()} for part, index in parts.items()
    }


def divided(rows: int, fractions: Fractions, seed: int) -> dict[str, Array]:
    """Choose at random the rows of train, val and test, in order; at least one each.

    >>> {part: len(rows) for part, rows in divided(10, (0.8, 0.1, 0.1), seed=0).items()}
    {'train': 8, 'val': 1, 'test': 1}

    Raises:
        ValueError: fractions that are none, or fewer than three rows.
    """
    check_fractions(fractions)
    if rows < len(PARTS):
        raise ValueError(
            f"{rows} rows cannot be divided into train, val and test; give at least 3, or the splits themselves"
        )
    order = np.random.default_rng(seed).permutation(rows)
    val, test = (max(1, round(f * rows)) for f in fractions[1:])
    train = max(1, rows - val - test)
    val = min(val, rows - train - 1)
    return {
        part: np.sort(index)
        for part, index in zip(PARTS, np.split(order, [train, train + val]), strict=True)
    }
