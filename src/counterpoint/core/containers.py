"""What a user hands over, as arrays: numpy's, pandas' and scipy's containers, tensors,
lists, and whatever numpy reads.

A container changes nothing but this: tables bring names of rows and columns, and masks,
None and NA say what is missing. Rows of tables are called as their index says, and
belong together by these names, in whatever order they stand.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from counterpoint.core.cells import (
    Array,
    cells_of_array,
    cells_of_column,
    cells_of_table,
    described,
    dtype_name,
    in_a_line,
    is_missing,
)
from counterpoint.core.sparse import dtype_of_counts, summed

_MOST = 2**63 - 1


@dataclass(frozen=True)
class Given:
    """Values that a user gave.

    Attributes:
        values: (N, ...) numbers or text, in the byte order of this machine.
        absent: (N,) bool, the rows that hold nothing.
        ids: (N,) text, what the rows of a table are called; None where they are not.
        columns: what the columns of a table are called, () where they are not; None for
            what is no table.
        numbered: rows of a table that are called 0, 1, 2, ... because nobody called
            them anything.
    """

    values: Array
    absent: Array
    ids: Array | None = None
    columns: tuple[str, ...] | None = None
    numbered: bool = False

    def ordered(self, key: str, columns: Sequence[str]) -> Given:
        """The same with its columns in an order that is wanted.

        Raises:
            ValueError: a column that is wanted and not there.
        """
        if not self.columns or self.columns == tuple(columns):
            return self
        place = {name: i for i, name in enumerate(self.columns)}
        lacking = [name for name in columns if name not in place]
        if lacking:
            raise ValueError(
                f"table {key!r} lacks {len(lacking)} of {len(columns)} columns, {lacking[0]!r} first; give all of them"
            )
        return replace(
            self, values=self.values[:, [place[name] for name in columns]], columns=tuple(columns)
        )

    def at(self, ids: Array) -> Given:
        """The same with a row for each id, absent where the table has none."""
        if self.ids is None or np.array_equal(self.ids, ids):
            return self
        place = {name: i for i, name in enumerate(self.ids.tolist())}
        rows = np.array([place.get(name, -1) for name in ids.tolist()])
        return replace(
            self,
            values=self.values[rows.clip(0)],
            absent=self.absent[rows.clip(0)] | (rows < 0),
            ids=ids,
        )


def given(key: str, value: Any) -> Given:
    """What a value holds, whatever it is kept in.

    Raises:
        TypeError: neither numbers nor text. ValueError: no rows, rows of different
            lengths, names of rows or columns that repeat, numbers that fit no 64 bits,
            or whole numbers of which some are masked.
    """
    if hasattr(value, "iloc"):
        return _table(key, value)
    if hasattr(value, "tocsr"):
        table = summed(value).toarray()
        return _whole(key, table.astype(dtype_of_counts(table)), columns=())
    if hasattr(value, "isna") and hasattr(value, "dtype"):  # an index or array of pandas
        values, missing = cells_of_column(key, value)
        return _rows(key, values, missing, floats=True)
    if isinstance(value, torch.Tensor):
        return _tensor(key, value.detach().cpu())
    if isinstance(value, np.ma.MaskedArray):
        return _rows(
            key, *cells_of_array(key, np.ma.getdata(value)), hidden=np.ma.getmaskarray(value)
        )
    if isinstance(value, np.memmap):
        return _whole(key, value)
    held = (
        isinstance(value, Sequence | memoryview)
        or hasattr(value, "__array__")
        or hasattr(value, "__array_interface__")
    )
    if isinstance(value, str | bytes) or not held:
        raise TypeError(
            f"array {key!r} is {described(value)}, expected an array with a row for each example"
        )
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        lengths = (
            {len(row) for row in value if hasattr(row, "__len__")}
            if isinstance(value, list | tuple)
            else set()
        )
        why = (
            f"has rows of different lengths ({min(lengths)} and {max(lengths)}); pad them to one"
            if len(lengths) > 1
            else ""
        )
        raise ValueError(f"array {key!r} {why or f'is no array ({in_a_line(error)})'}") from None
    return _rows(key, *cells_of_array(key, array))


def together(found: Mapping[str, Given]) -> tuple[dict[str, Given], Array | None]:
    """Values of the same rows, side by side, and what these are called.

    The rows are the union of those of all tables of values, in the order of the first
    and then of those that come after it; what a table lacks is
    absent. What is no table has no names, and goes by its place: beside it all tables
        must have the same rows in the same order.

    Args:
        found: by their keys; those without a slash are values, and others (labels,
            masks, covariates) do not bring rows.

    Raises:
        ValueError: tables of different rows beside what is no table, or a table that
            shares no row with any other.
    """
    tables = {key: (it, it.ids) for key, it in found.items() if it.ids is not None}
    if not tables:
        return dict(found), None
    leading = [key for key in tables if "/" not in key] or [*tables]
    ids = np.array(
        [*dict.fromkeys(name for key in leading for name in tables[key][1].tolist())], str
    )
    plain = [key for key in found if key not in tables]
    other = [
        key for key, (_, own) in tables.items() if not np.array_equal(own, tables[leading[0]][1])
    ]
    if plain and other:
        raise ValueError(
            f"the rows of {plain[0]!r} have no names, and tables {leading[0]!r} and {other[0]!r} have different rows or orders;"
            f" give {plain[0]!r} as a table with the same index"
        )
    for key, (_, own) in tables.items():
        beside = [name for name in leading if name != key]
        if beside and not any(np.isin(own, tables[name][1]).any() for name in beside):
            raise ValueError(
                f"table {key!r} shares no row with another: its first is called '{own[0]}', that of {beside[0]!r} '{tables[beside[0]][1][0]}';"
                " give the same row the same name in the index of both"
            )
    counted = {key: own for key in leading if np.char.isdigit(own := tables[key][1]).all()}
    differ = len({frozenset(own.tolist()) for own in counted.values()}) > 1
    if differ and any(tables[key][0].numbered for key in counted):
        sizes = [len(own) for own in counted.values()]
        warnings.warn(
            f"rows of the tables {', '.join(map(repr, counted))} have numbers for names, and {min(sizes)} to {max(sizes)}"
            " of them; those of the same number are taken for one: give an index of names if that is wrong",
            stacklevel=2,
        )
    return {key: it if it.ids is None else it.at(ids) for key, it in found.items()}, ids


def _tensor(key: str, tensor: torch.Tensor) -> Given:
    """A tensor; one that is sparse is a table, whose entries of one place are added up
    in 64 bits."""
    if tensor.layout != torch.strided:
        whole = not tensor.dtype.is_floating_point and tensor.dtype != torch.bool
        dense = (tensor.long() if whole else tensor).to_dense().numpy()
        return _whole(key, dense, columns=() if dense.ndim == 2 else None)
    return _whole(
        key,
        tensor.float().numpy()
        if tensor.dtype == torch.bfloat16
        else tensor.resolve_conj().resolve_neg().numpy(),
    )


def _table(key: str, table: Any) -> Given:
    """A DataFrame or a Series of pandas."""
    names = table.index
    nameless = [
        i
        for i, name in enumerate(names)
        if any(map(is_missing, name if isinstance(name, tuple) else (name,)))
    ]
    if nameless or not len(names):
        raise ValueError(
            f"table {key!r}: row {nameless[0]} has no name; fill in its index"
            if nameless
            else f"table {key!r} has no rows"
        )
    ids = np.array([str(name) for name in names], str)
    _once(key, ids, "row", "make the index unique")
    columns = tuple(map(str, table.columns)) if table.ndim > 1 else ()
    _once(key, columns, "column", "make the columns unique")
    values, missing = cells_of_column(key, table) if table.ndim == 1 else cells_of_table(key, table)
    numbered = type(names).__name__ == "RangeIndex" and names.start == 0 and names.step == 1
    return replace(
        _rows(key, values, missing, floats=table.ndim > 1 or "/" not in key),
        ids=ids,
        columns=columns,
        numbered=numbered,
    )


def _rows(
    key: str, values: Array, missing: Array, *, hidden: Array | None = None, floats: bool = False
) -> Given:
    """Values of which some entries are missing: NaN in floats, rows that hold nothing,
    and an error otherwise.

    Args:
        hidden: entries that are masked beside.
        floats: whole numbers become floats where some of a row are missing.
    """
    missing = missing if hidden is None else missing | hidden
    if not values.ndim or not missing.any():
        return _whole(key, values)
    absent = np.asarray(missing.reshape(len(missing), -1).all(1))
    partly = missing.reshape(len(missing), -1).any(1) & ~absent
    if values.dtype.kind != "f" and partly.any():
        if values.dtype.kind not in "biu" or not floats:
            raise ValueError(
                f"array {key!r} holds {_kind(values)} of which some are missing in row {int(partly.argmax())};"
                " mask all of the row, or give floats (and nan='missing')"
            )
        values = values.astype(np.float64)
    if values.dtype.kind == "f":
        values = np.where(missing, np.nan, values)
    return replace(_whole(key, values), absent=absent)


def _whole(key: str, values: Array, columns: tuple[str, ...] | None = None) -> Given:
    """Values of which none is missing.

    Raises:
        TypeError, ValueError: as :func:`given`.
    """
    if values.dtype.kind not in "biufU":
        remedy = (
            "give numbers of one unit, such as days"
            if values.dtype.kind in "mM"
            else "give numbers, or text"
        )
        raise TypeError(f"array {key!r} has dtype {dtype_name(values)}; {remedy}")
    if values.ndim == 0:
        raise ValueError(f"array {key!r} is {described(values[()])}, expected one row per example")
    if values.dtype == np.uint64 or values.dtype == np.dtype(">u8"):
        if values.size and int(values.max()) > _MOST:
            raise ValueError(
                f"array {key!r} holds {int(values.max())}, more than 2^63 − 1; number its values anew"
            )
        values = values.astype(np.int64)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if any(stride < 0 for stride in values.strides):
        values = np.ascontiguousarray(values)
    return Given(values, np.zeros(len(values), bool), columns=columns)


def _once(key: str, names: Sequence[str] | Array, what: str, remedy: str) -> None:
    found, count = np.unique(np.asarray(names, str), return_counts=True)
    if (count > 1).any():
        raise ValueError(
            f"table {key!r}: {what} {str(found[count > 1][0])!r} is there {count.max()} times; {remedy}"
        )


def _kind(values: Array) -> str:
    return {"b": "booleans", "U": "text"}.get(values.dtype.kind, "whole numbers")
