"""Turn covariates into columns that decoders read: floats make one column, anything
else one column for each value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from counterpoint.data.ambiguity import MOST_VALUES
from counterpoint.data.division import Flat
from counterpoint.data.split import COVARIATES, Array


@dataclass(frozen=True)
class Columns:
    """Columns of covariates.

    Attributes:
        values: by split, (N, C) float32.
        names: of the C columns.
        units: mean and scale of each column before it was standardised; empty where
            that is not known.
        notes: what each covariate is.
    """

    values: Flat
    names: tuple[str, ...]
    units: tuple[tuple[float, float], ...] = ()
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Encoded:
    """One covariate as columns: values by split, names, units and a note."""

    values: Flat
    names: list[str]
    units: list[tuple[float, float]]
    note: str


def columns_of(parts: Mapping[str, Flat], named: tuple[str, ...]) -> Columns:
    """Return the columns of all covariates of the splits.

    Args:
        parts: the arrays of each split.
        named: the columns that the modalities name, which a prepared folder holds as
            they are.

    Raises:
        TypeError, ValueError: a covariate that a split lacks, or that splits hold in
            different ways; NaN; too many categories.
    """
    if all(COVARIATES in flat for flat in parts.values()):
        return Columns({part: flat[COVARIATES] for part, flat in parts.items()}, named)
    rows = {part: len(next(iter(flat.values()), ())) for part, flat in parts.items()}
    keys = dict.fromkeys(key for flat in parts.values() for key in flat)
    encoded = {key: _encoded(key, parts, rows) for key in keys if key.startswith("covariate/")}
    values = {}
    for part, count in rows.items():
        columns = [one.values[part] for one in encoded.values()]
        values[part] = np.concatenate([np.zeros((count, 0)), *columns], 1, dtype=np.float32)
    return Columns(
        values,
        tuple(name for one in encoded.values() for name in one.names),
        tuple(unit for one in encoded.values() for unit in one.units),
        {key: one.note for key, one in encoded.items()},
    )


def _encoded(key: str, parts: Mapping[str, Flat], rows: Mapping[str, int]) -> _Encoded:
    """One covariate as columns."""
    by_part = {
        part: _covariate(part, key, flat.get(key), rows[part]) for part, flat in parts.items()
    }
    kinds = {"number" if values.dtype.kind == "f" else "name" for values in by_part.values()}
    if len(kinds) > 1:
        raise TypeError(
            f"array {key!r} holds floats in some splits and none in others; give it the same dtype in all"
        )
    return _standardised(key, by_part) if kinds == {"number"} else _one_hot(key, by_part)


def _covariate(part: str, key: str, values: Array | None, rows: int) -> Array:
    if values is None:
        raise ValueError(
            f"{part}: array {key!r} is missing; give it in all of train, val and test, or in none"
        )
    if values.shape != (rows,):
        raise ValueError(
            f"{part}: array {key!r} has shape {values.shape}, expected ({rows},): a number or a name for each row"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(
            f"{part}: array {key!r} holds NaN or infinity in row {int(np.isfinite(values).argmin())}; fill it in, or drop the row"
        )
    return values if values.dtype.kind == "f" else np.asarray(values).astype(str)


def _standardised(key: str, by_part: Flat) -> _Encoded:
    """Numbers as one column, of mean 0 and variance 1 in training."""
    train = by_part["train"]
    mean = float(train.mean(dtype=np.float64))
    std = float(train.std(dtype=np.float64))
    scale = std if std > 0 else 1.0
    return _Encoded(
        {part: (values[:, None] - mean) / scale for part, values in by_part.items()},
        [key.removeprefix("covariate/")],
        [(mean, scale)],
        f"standardised by mean {mean:g} and scale {scale:g} of the training rows",
    )


def _one_hot(key: str, by_part: Flat) -> _Encoded:
    """Categories as a column for each that training has. Other categories, and empty
    ones, are unknown: such rows have the average of training."""
    values = np.unique(by_part["train"][by_part["train"] != ""])
    if len(values) > MOST_VALUES:
        raise ValueError(
            f"array {key!r} has {len(values)} values, and each would be a column; give floats where it is a quantity"
        )
    hits = {part: own[:, None] == values for part, own in by_part.items()}
    average = hits["train"][hits["train"].any(1)].mean(0)
    columns = {
        part: np.where(hit.any(1, keepdims=True), hit, average) for part, hit in hits.items()
    }
    unknown: set[str] = set()
    for part, own in by_part.items():
        unknown |= {*own[~hits[part].any(1)].tolist()} - {""}
    note = f"one of {', '.join(values)}"
    if unknown:
        note += f"; of {', '.join(sorted(unknown))}, which training does not have, nothing is known"
    names = [f"{key.removeprefix('covariate/')}={value}" for value in values]
    return _Encoded(columns, names, [(0.0, 1.0)] * len(names), note)
