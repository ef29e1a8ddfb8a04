"""Columns of ``obs`` in a MuData object: labels, covariates and splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.core.containers import given
from counterpoint.data.division import PART_NAMES, PARTS, Fractions, held_out, named_parts
from counterpoint.data.sources.labels import UNKNOWN
from counterpoint.data.split import Array

if TYPE_CHECKING:
    from mudata import MuData


def among(name: str, known: Mapping[str, Any] | Sequence[str], what: str, where: str) -> str:
    """Return ``name`` if it is one of those known."""
    if name in known:
        return name
    close = get_close_matches(name, [*known], 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"{where} has no {what} {name!r}; {hint}it has {', '.join(map(str, known)) or 'none'}"
    )


def row_numbers(mdata: MuData, name: str) -> Array:
    """Return the row of each observation in a modality, (N,); −1 where it is not."""
    return np.asarray(mdata.obsmap[name]).reshape(-1).astype(np.int64) - 1


def column_of(mdata: MuData, name: str, where: str) -> Any:
    """Return a column of obs, or "MODALITY:COLUMN" of a modality's own, aligned with
    the observations."""
    if name in mdata.obs:
        return mdata.obs[name]
    mod, _, column = name.partition(":")
    if mod in mdata.mod and column in mdata[mod].obs:
        rows = row_numbers(mdata, mod)
        values = mdata[mod].obs[column].iloc[rows.clip(0)].set_axis(mdata.obs_names)
        return values.where(rows >= 0)
    own = []
    for key in mdata.mod:
        for c in mdata[key].obs:
            own.append(f"{key}:{c}")
    return among(name, list(dict.fromkeys([*mdata.obs, *own])), "obs column", where)


def coded(column: Any, name: str, where: str) -> tuple[Array, Sequence[str]]:
    """Return numbers of classes, negative where unknown, and the names of the classes
    in order."""
    known = ~np.asarray(column.isna())
    values = given(name, column[known].array).values
    if values.dtype.kind == "f" and (values != np.rint(values)).any():
        raise TypeError(
            f"{where}: label {name!r} holds numbers that are no classes ({values[values != np.rint(values)][0]:g}); cut it into categories"
        )
    values = (
        values.astype(int)
        if values.dtype.kind in "bf"
        else values
        if values.dtype.kind in "iu"
        else values.astype(str)
    )
    classes, numbers = np.unique(values, return_inverse=True)
    if len(classes) > max(2, len(values) / 2):
        raise ValueError(
            f"{where}: label {name!r} has {len(classes):,} classes in {len(values):,} observations; name a column of categories"
        )
    codes = np.full(len(known), UNKNOWN)
    codes[known] = numbers
    return codes, [*map(str, classes)]


def covariate(column: Any, name: str) -> Array:
    """Return numbers as they are, anything else as text; "" or NaN where unknown."""
    one = given(name, column.array)
    whole = one.values.dtype.kind in "iu" and not one.absent.any()
    return (
        one.values
        if whole or one.values.dtype.kind == "f"
        else np.where(one.absent, "", one.values.astype(str))
    )


def split_names(column: Any, name: str, where: str) -> Array:
    """Return the split of each observation, (N,) text."""
    values = np.asarray(column.astype(str).str.lower(), str)
    found = np.unique(values)
    wrong = ~np.isin(values, [*PART_NAMES])
    if wrong.any():
        row = column.index[int(wrong.argmax())]
        raise ValueError(
            f"{where}: column {name!r} says '{values[wrong][0]}' of {row}; expected train, val or test"
        )
    named_parts(f"{where}: column {name!r}", [*map(str, found)])
    return np.array([PART_NAMES[value] for value in values])


def with_held_out(
    parts: Array, groups: Array, fractions: Fractions, seed: int, where: str
) -> tuple[Array, dict[str, str]]:
    """Hold out the splits that are missing from train, alike in every group. Return the
    split of each observation, and notes."""
    notes: dict[str, str] = {}
    for part, share in zip(PARTS[1:], fractions[1:], strict=True):
        if part not in parts:
            train = np.flatnonzero(parts == "train")
            out, notes[part] = held_out(where, part, groups[train], share, seed)
            parts = parts.copy()
            parts[train[out]] = part
    return parts, notes
