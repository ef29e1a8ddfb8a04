"""Sparse matrices whose entries may be given twice."""

from __future__ import annotations

from typing import Any

import numpy as np

from counterpoint.core.cells import Array


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


def dtype_of_counts(values: Array) -> np.dtype[Any]:
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
