"""Guesses: which likelihood values look like, and which they would be wrong for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.core.cells import Array

if TYPE_CHECKING:
    from counterpoint.core.modality import LikelihoodName

# logarithms stay below the first; a largest value so many means away is no quantity on a linear scale
_UNLOGGED = 100
_SKEW = 5

_ENOUGH = 20  # rows that say what values look like

# share of whole numbers among nonzero entries from which on fractions look like counts that were
# scaled or shared out
_WHOLE = 0.25


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
    kinds = []
    for column in table.T:
        positive = column[column > 0]
        kinds.append(positive == np.rint(positive))
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
