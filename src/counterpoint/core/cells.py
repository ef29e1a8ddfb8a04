"""Cells: numbers out of tables, text and arrays of objects, and which of them are missing."""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np

Array = np.ndarray


def cells_of_table(key: str, table: Any) -> tuple[Array, Array]:
    """Values of a DataFrame, and which are missing; column by column, unless all are of
    one of numpy's own dtypes.

    Raises:
        ValueError: no columns. TypeError: a column of text.
    """
    if not table.shape[1]:
        raise ValueError(f"table {key!r} has no columns; give one or more")
    kinds = {*table.dtypes}
    if len(kinds) == 1 and isinstance(kind := next(iter(kinds)), np.dtype) and kind.kind in "biuf":
        values = table.to_numpy()
        return values, np.isnan(values) if kind.kind == "f" else np.zeros(values.shape, bool)
    series = [table.iloc[:, i] for i in range(table.shape[1])]
    parts = [cells_of_column(f"{key}[{one.name!r}]", one) for one in series]
    texts = [
        one.name for one, (part, _) in zip(series, parts, strict=True) if part.dtype.kind == "U"
    ]
    if texts:
        raise TypeError(
            f"column {str(texts[0])!r} of table {key!r} holds text; leave it out, or give it as a label or a covariate"
        )
    values, missing = (np.stack([part[i] for part in parts], 1) for i in (0, 1))
    return values, missing


def cells_of_column(key: str, column: Any) -> tuple[Array, Array]:
    """Values of a Series, an index or an array of pandas, and which are missing."""
    missing = np.asarray(column.isna(), bool)
    kind = getattr(column.dtype, "kind", "O")
    if kind == "f":
        return np.asarray(
            column.to_numpy(
                dtype=np.float64 if missing.any() else _numpy_type(column), na_value=np.nan
            )
        ), missing
    if kind in "iub":
        known = column[~missing] if missing.any() else column
        values = np.zeros(len(column), _numpy_type(column))
        values[~missing] = np.asarray(known.to_numpy(dtype=values.dtype))
        return values, missing
    if kind == "O":
        return cells_of_array(key, np.asarray(column.astype(object)))
    return cells_of_array(key, np.asarray(column))


def _numpy_type(column: Any) -> np.dtype[Any]:
    """numpy's dtype for what a column of pandas holds."""
    dtype = column.dtype
    return np.dtype(getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", dtype)))


def cells_of_array(key: str, array: Array) -> tuple[Array, Array]:
    """Numbers or text of an array, and which are missing."""
    if array.dtype.kind in "OT" and array.ndim:
        return _objects(key, array.astype(object))
    if array.dtype.kind == "S":
        array = np.array([_text(key, one) for one in array.ravel()], str).reshape(array.shape)
    return array, np.zeros(array.shape, bool)


def _objects(key: str, array: Array) -> tuple[Array, Array]:
    """Of Python objects: numbers, text, or arrays of one shape."""
    flat = [_text(key, one) if isinstance(one, bytes) else one for one in array.ravel()]
    missing = np.array([is_missing(one) for one in flat], bool)
    known = [one for one, gone in zip(flat, missing, strict=True) if not gone]
    if known and all(isinstance(one, str) for one in known):
        return np.array(
            ["" if gone else one for one, gone in zip(flat, missing, strict=True)]
        ).reshape(array.shape), missing.reshape(array.shape)
    if all(isinstance(one, Number | np.bool_) and not isinstance(one, complex) for one in known):
        whole = all(isinstance(one, int | np.integer | np.bool_) for one in known)
        truth = bool(known) and all(isinstance(one, bool | np.bool_) for one in known)
        kind = np.bool_ if truth else np.int64 if whole and known else np.float64
        blank = np.nan if kind is np.float64 else 0
        try:
            numbers = np.array(
                [blank if gone else one for one, gone in zip(flat, missing, strict=True)], kind
            )
        except OverflowError:
            raise ValueError(
                f"array {key!r} holds whole numbers of more than 64 bits; number them anew"
            ) from None
        return numbers.reshape(array.shape), missing.reshape(array.shape)
    rows = [(i, np.asarray(one)) for i, one in enumerate(flat) if not missing[i]]
    shapes = {row.shape: i for i, row in reversed(rows)}
    if (
        array.ndim == 1
        and shapes
        and () not in shapes
        and all(row.dtype.kind in "biuf" for _, row in rows)
    ):
        if len(shapes) > 1:
            (one, i), (other, j) = [*shapes.items()][:2]
            raise ValueError(
                f"array {key!r} has rows of different shapes, {one} in row {i} and {other} in row {j}; pad them to one"
            )
        values = np.zeros(
            (len(flat), *next(iter(shapes))), np.result_type(*(row.dtype for _, row in rows))
        )
        values[~missing] = [row for _, row in rows]
        return values, np.broadcast_to(missing.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
    kinds: dict[type, int] = {}
    for i, one in enumerate(flat):
        if not missing[i]:
            kinds.setdefault(type(one), i)
    first_two = [*kinds.items()][:2]
    what = " and ".join(f"{kind.__name__} (entry {i})" for kind, i in first_two)
    raise TypeError(f"array {key!r} holds Python objects, {what}; expected numbers, or text")


def _text(key: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"array {key!r} holds bytes that are no UTF-8 ({error}); give text"
        ) from None


def is_missing(one: Any) -> bool:
    """Whether a Python object says that nothing is there: None, NaN, pandas' NA and
    NaT."""
    return (
        one is None
        or type(one).__name__ in ("NAType", "NaTType")
        or (isinstance(one, float | np.floating) and bool(np.isnan(one)))
    )


def dtype_name(values: Array) -> str:
    return "of several fields" if values.dtype.names else str(values.dtype)


def described(value: Any) -> str:
    """A value that is no array, in words."""
    if isinstance(value, str | bytes | np.str_):
        return f"the text {value[:40]!r}" if isinstance(value, str) else f"{len(value)} bytes"
    return (
        f"a single number ({value})"
        if isinstance(value, Number | np.generic)
        else f"a {type(value).__name__}"
    )


def in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
