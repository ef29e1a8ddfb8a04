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
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from counterpoint.core.modality import LikelihoodName

Array = np.ndarray

_MOST = 2**63 - 1

_UNLOGGED, _SKEW = (
    100,
    5,
)  # logarithms stay below the first; a largest value so many means away is no quantity on a linear scale

_ENOUGH = 20  # rows that say what values look like

# share of whole numbers among nonzero entries from which on fractions look like counts that were
# scaled or shared out
_WHOLE = 0.25


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
        return _whole(key, table.astype(_counted(table)), columns=())
    if hasattr(value, "isna") and hasattr(value, "dtype"):  # an index or array of pandas
        values, missing = _column(key, value)
        return _rows(key, values, missing, floats=True)
    if isinstance(value, torch.Tensor):
        return _tensor(key, value.detach().cpu())
    if isinstance(value, np.ma.MaskedArray):
        return _rows(key, *_plain(key, np.ma.getdata(value)), hidden=np.ma.getmaskarray(value))
    if isinstance(value, np.memmap):
        return _whole(key, value)
    held = (
        isinstance(value, Sequence | memoryview)
        or hasattr(value, "__array__")
        or hasattr(value, "__array_interface__")
    )
    if isinstance(value, str | bytes) or not held:
        raise TypeError(
            f"array {key!r} is {_told(value)}, expected an array with a row for each example"
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
        raise ValueError(f"array {key!r} {why or f'is no array ({_line(error)})'}") from None
    return _rows(key, *_plain(key, array))


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
        if any(map(_nothing, name if isinstance(name, tuple) else (name,)))
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
    values, missing = _column(key, table) if table.ndim == 1 else _cells(key, table)
    numbered = type(names).__name__ == "RangeIndex" and names.start == 0 and names.step == 1
    return replace(
        _rows(key, values, missing, floats=table.ndim > 1 or "/" not in key),
        ids=ids,
        columns=columns,
        numbered=numbered,
    )


def _cells(key: str, table: Any) -> tuple[Array, Array]:
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
    parts = [_column(f"{key}[{one.name!r}]", one) for one in series]
    texts = [
        one.name for one, (part, _) in zip(series, parts, strict=True) if part.dtype.kind == "U"
    ]
    if texts:
        raise TypeError(
            f"column {str(texts[0])!r} of table {key!r} holds text; leave it out, or give it as a label or a covariate"
        )
    values, missing = (np.stack([part[i] for part in parts], 1) for i in (0, 1))
    return values, missing


def _column(key: str, column: Any) -> tuple[Array, Array]:
    """Values of a Series, an index or an array of pandas, and which are missing."""
    missing, kind = np.asarray(column.isna(), bool), getattr(column.dtype, "kind", "O")
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
        return _plain(key, np.asarray(column.astype(object)))
    return _plain(key, np.asarray(column))


def _numpy_type(column: Any) -> np.dtype[Any]:
    """numpy's dtype for what a column of pandas holds."""
    dtype = column.dtype
    return np.dtype(getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", dtype)))


def _plain(key: str, array: Array) -> tuple[Array, Array]:
    """Numbers or text of an array, and which are missing."""
    if array.dtype.kind in "OT" and array.ndim:
        return _objects(key, array.astype(object))
    if array.dtype.kind == "S":
        array = np.array([_text(key, one) for one in array.ravel()], str).reshape(array.shape)
    return array, np.zeros(array.shape, bool)


def _objects(key: str, array: Array) -> tuple[Array, Array]:
    """Of Python objects: numbers, text, or arrays of one shape."""
    flat = [_text(key, one) if isinstance(one, bytes) else one for one in array.ravel()]
    missing = np.array([_nothing(one) for one in flat], bool)
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
    what = " and ".join(f"{kind.__name__} (entry {i})" for kind, i in [*kinds.items()][:2])
    raise TypeError(f"array {key!r} holds Python objects, {what}; expected numbers, or text")


def _text(key: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"array {key!r} holds bytes that are no UTF-8 ({error}); give text"
        ) from None


def _nothing(one: Any) -> bool:
    """Whether a Python object says that nothing is there: None, NaN, pandas' NA and
    NaT."""
    return (
        one is None
        or type(one).__name__ in ("NAType", "NaTType")
        or (isinstance(one, float | np.floating) and bool(np.isnan(one)))
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
        raise TypeError(f"array {key!r} has dtype {_dtype(values)}; {remedy}")
    if values.ndim == 0:
        raise ValueError(f"array {key!r} is {_told(values[()])}, expected one row per example")
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


def _dtype(values: Array) -> str:
    return "of several fields" if values.dtype.names else str(values.dtype)


def _told(value: Any) -> str:
    """A value that is no array, in words."""
    if isinstance(value, str | bytes | np.str_):
        return f"the text {value[:40]!r}" if isinstance(value, str) else f"{len(value)} bytes"
    return (
        f"a single number ({value})"
        if isinstance(value, Number | np.generic)
        else f"a {type(value).__name__}"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def summed(matrix: Any) -> Any:
    """A sparse matrix as a CSR array, entries of one place added up in a dtype that
    holds their sum. The matrix stays as it is."""
    from scipy import sparse

    matrix = matrix if sparse.issparse(matrix) else matrix.tocsr()
    whole = matrix.dtype.kind in "iu"
    table = sparse.csr_array(
        matrix.astype(np.int64 if whole else matrix.dtype.newbyteorder("="), copy=False)
    )
    if not table.has_canonical_format:
        table = table.copy()
        table.sum_duplicates()
    return table.astype(matrix.dtype) if whole and _holds(matrix.dtype, table.data) else table


def _holds(dtype: np.dtype[Any], values: Array) -> bool:
    return not len(values) or (
        np.iinfo(dtype).min <= values.min() and values.max() <= np.iinfo(dtype).max
    )


def _counted(values: Array) -> np.dtype[Any]:
    """Counts in as few bytes as they need, but more than one, since bytes are read as
    images are."""
    small = values.dtype.kind in "iu" and _holds(np.dtype(np.int16), values.ravel())
    return (
        np.dtype(np.int16)
        if small
        else np.dtype(np.int64)
        if values.dtype.kind in "iu"
        else values.dtype
    )


def entries(table: Any) -> Array:
    """The entries of a table, of a sparse one those that are stored: of the others,
    which are 0, nothing is ever wrong."""
    return np.asarray(table.data) if hasattr(table, "indptr") else table.ravel()


def inferred(table: Any) -> LikelihoodName:
    """The likelihood that values look like: Bernoulli where all are 0 or 1, negative
    binomial where all are counts, normal otherwise."""
    values = entries(table)
    if (
        not len(values)
        or (values < 0).any()
        or not np.isfinite(values).all()
        or (values != np.rint(values)).any()
    ):
        return "normal"
    return "bernoulli" if values.max() <= 1 else "nb"


def _by_column(table: Any) -> bool:
    """Whether each column holds whole numbers alone, or hardly any: a quantity beside
    numbers of things, and no counts that were scaled."""
    if hasattr(table, "indptr") or table.ndim != 2:
        return False
    kinds = [(column[column > 0] == np.rint(column[column > 0])) for column in table.T]
    shares = [float(kind.mean()) for kind in kinds if len(kind)]
    return all(share == 1 or share < _WHOLE for share in shares)


def doubtful(table: Any) -> str | None:
    """Why values (n, d) that are read as normal look like something else, and what to
    do about it; None where they do not."""
    values = entries(table)
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if table.shape[0] < _ENOUGH or not len(values) or values.min() < 0 or values.max() <= 1:
        return None
    positive = values[values > 0]
    whole = float((positive == np.rint(positive)).mean())
    if whole == 1:
        return "holds whole numbers alone and is read as normal; name 'nb' if they are counts"
    size = int(np.prod(table.shape)) or 1
    if values.max() > _UNLOGGED and values.max() > _SKEW * values.sum(dtype=np.float64) / size:
        return f"spans 0 to {values.max():,.6g} and is read as normal, which suits logarithms; give log1p of it, or round counts and name 'nb'"
    if whole >= _WHOLE and not _by_column(table):
        return f"holds counts of which {1 - whole:.0%} are fractions and is read as normal; round them and name 'nb', or give log1p of them"
    return None
