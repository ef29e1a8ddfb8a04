"""Assays: tables of what was measured, one a modality, each of some of the
observations; and what is wrong with them.

A table is dense, or sparse by rows, and stays so until the features that count are
chosen. What is bad is an error that names file, row and feature; where bad rows and
features may be skipped, it is left out and listed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from counterpoint.core.modality import COUNTS, LikelihoodName
from counterpoint.core.sparse import summed
from counterpoint.data.faults import Faults
from counterpoint.data.split import Array

UNIT: tuple[LikelihoodName, ...] = ("bernoulli", "beta")

FAMILIES: tuple[LikelihoodName, ...] = ("normal", "laplace", "nb", "zinb", "bernoulli", "beta")


@dataclass(frozen=True)
class Assay:
    """Hold one modality as it was measured.

    Attributes:
        values: (n, d), dense or sparse by rows (:func:`as_table`).
        rows: (N,) which of the n rows belongs to each observation; negative where it
            was not measured.
        features: (d,) what was measured, text.
        likelihood: one of :data:`FAMILIES`.

    >>> values, rows = np.array([[0.0, 2.0], [1.0, 0.0]]), np.array([0, 1, -1])
    >>> assay = Assay("rna", values, rows, np.array(["g0", "g1"]), "nb")
    >>> assay.present
    array([ True,  True, False])
    """

    name: str
    values: Any
    rows: Array
    features: Array
    likelihood: LikelihoodName

    @property
    def counts(self) -> bool:
        return self.likelihood in COUNTS

    @property
    def present(self) -> Array:
        """(N,) bool."""
        return np.asarray(self.rows >= 0)

    def of(self, observations: Array) -> Any:
        """Return the table of the given observations, without those that were not
        measured."""
        rows = self.rows[observations]
        return self.values[rows[rows >= 0]]

    def without(self, observations: Array) -> Assay:
        """Return the assay with some observations, (N,) bool, not measured."""
        return replace(self, rows=np.where(observations, -1, self.rows))

    def only(self, features: Array) -> Assay:
        """Return the assay with some of the features, (d,) bool or numbers."""
        return replace(self, values=self.values[:, features], features=self.features[features])


def as_table(values: Any, what: str) -> Any:
    """Return values as an array, or as a CSR array where they are sparse. Values on
    disk are read.

    >>> as_table([[1, 2], [3, 4]], "rna").shape
    (2, 2)

    Raises:
        ValueError: not two axes. TypeError: no numbers.
    """
    from scipy import sparse

    values = values.to_memory() if hasattr(values, "to_memory") else values
    table = summed(values) if sparse.issparse(values) else np.asarray(values)
    if table.dtype.kind not in "biuf":
        raise TypeError(f"{what} holds {table.dtype}, expected numbers")
    if table.ndim != 2:
        raise ValueError(f"{what} has shape {table.shape}, expected observations by features")
    return table


def zero_rows(assay: Assay) -> tuple[Array, Array]:
    """Return which observations are zero everywhere, (N,) bool, and in how many each
    feature is not, (d,).

    >>> values, rows = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0, 1])
    >>> zero_rows(Assay("rna", values, rows, np.array(["g0", "g1"]), "nb"))
    (array([ True, False]), array([1, 0]))
    """
    observations = np.flatnonzero(assay.present)
    filled = assay.of(observations) != 0
    zero = np.zeros(len(assay.rows), bool)
    zero[observations] = np.asarray(filled.sum(1)).ravel() == 0
    return zero, np.asarray(filled.sum(0)).ravel()


def _wrong(assay: Assay) -> list[tuple[str, str, Callable[[Array], Array]]]:
    """What entries must not be: the fault in a word, the remedy, and where it is."""
    entries: list[tuple[str, str, Callable[[Array], Array]]] = [
        (
            "no number",
            "clean it, or make all of the row NaN if it was not measured",
            lambda x: ~np.isfinite(x),
        )
    ]
    if assay.counts:
        remedy = f"name the layer of raw counts, or another likelihood than {assay.likelihood}"
        entries += [
            ("a negative count", remedy, lambda x: x < 0),
            ("no whole number", remedy, lambda x: x != np.rint(x)),
        ]
    if assay.likelihood in UNIT:
        remedy = f"rescale it, or name another likelihood than {assay.likelihood}"
        entries.append(("outside [0, 1]", remedy, lambda x: (x < 0) | (x > 1)))
    return entries


def checked(assay: Assay, ids: Array, faults: Faults) -> Assay:
    """Leave out what is bad: names of features that repeat, and entries that the
    likelihood does not read. Rows that are all NaN were not measured.

    >>> values, features = np.ones((2, 2)), np.array(["g0", "g0"])
    >>> assay = Assay("rna", values, np.array([0, 1]), features, "nb")
    >>> checked(assay, np.array(["a", "b"]), Faults("cells", ["duplicates"])).features
    array([], dtype='<U2')
    """
    assay = (
        assay.only(_distinct(assay, faults))
        if len(np.unique(assay.features)) < len(assay.features)
        else assay
    )
    if not hasattr(assay.values, "indptr") and assay.values.dtype.kind == "f":
        empty = np.isnan(assay.values).all(1)
        assay = assay.without(assay.present & empty[assay.rows])
    owner = np.full(assay.values.shape[0], -1)
    owner[assay.rows[assay.present]] = np.flatnonzero(assay.present)
    for fault, remedy, wrong in _wrong(assay):
        rows, columns, values = _where(assay.values, wrong, owner >= 0)
        if not len(rows):
            continue
        bad = np.zeros(len(ids), bool)
        bad[owner[rows]] = True
        what = (
            f"modality {assay.name!r}: row {rows[0]} ({ids[owner[rows[0]]]}), feature {assay.features[columns[0]]}"
            f" holds {values[0]:g}, {fault}"
        )
        faults.group(
            "bad-values", f"observations of {assay.name} that hold {fault}", ids[bad], what, remedy
        )
        assay = assay.without(bad)
        owner = np.where(np.isin(owner, np.flatnonzero(bad)), -1, owner)
    return assay


def _distinct(assay: Assay, faults: Faults) -> Array:
    """Which features have a name of their own."""
    names, number, count = np.unique(assay.features, return_inverse=True, return_counts=True)
    what = f"modality {assay.name!r}: feature {names[count > 1][0]} stands in several columns"
    faults.group(
        "duplicates",
        f"features of {assay.name} whose name repeats",
        names[count > 1],
        what,
        "make the names unique",
    )
    return np.asarray(count[number] == 1)


def _where(
    table: Any, wrong: Callable[[Array], Array], used: Array, block: int = 4096
) -> tuple[Array, Array, Array]:
    """Rows, columns and values of the entries of used rows that are wrong, in order."""
    if hasattr(table, "indptr"):
        at = np.flatnonzero(wrong(table.data))
        rows = np.searchsorted(table.indptr, at, "right") - 1
        columns = table.indices[at]
        values = table.data[at]
    else:
        found = [
            np.argwhere(wrong(table[i : i + block])) + np.array((i, 0))
            for i in range(0, len(table), block)
        ]
        rows, columns = np.concatenate([np.zeros((0, 2), int), *found]).T
        values = table[rows, columns]
    kept = used[rows]
    return rows[kept], columns[kept], values[kept]


def moments(table: Any, *, logarithmic: bool = False) -> tuple[Array, Array]:
    """Compute mean and variance of each feature, (d,) in float64, over the rows of a
    table.

    >>> moments(np.array([[0.0, 1.0], [2.0, 1.0]]))
    (array([1., 1.]), array([1., 0.]))

    Args:
        logarithmic: of log(1 + x · median(l) / l), where l is the sum of a row, in
            place of x. Rows of zeros are left out.
    """
    from scipy import sparse

    if logarithmic:
        size = np.asarray(table.sum(1), np.float64).ravel()
        table = table[size > 0]
        size = size[size > 0]
        factor = (np.median(size) / size)[:, None] if len(size) else np.ones((0, 1))
        table = np.log1p(
            table.multiply(factor).tocsr() if sparse.issparse(table) else table * factor
        )
    if not table.shape[0]:
        return np.zeros(table.shape[1]), np.zeros(table.shape[1])
    if sparse.issparse(table):
        from sklearn.utils.sparsefuncs import mean_variance_axis

        mean, variance = mean_variance_axis(table.astype(np.float64), axis=0)
        return mean, variance
    return table.mean(0, dtype=np.float64), table.var(0, dtype=np.float64)
