"""A mapping of arrays, tables or sparse matrices as a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from counterpoint.core.checks import shown
from counterpoint.core.containers import Given, given, together
from counterpoint.core.modality import Modality
from counterpoint.core.reading import as_mask
from counterpoint.data.ambiguity import AS_IT_IS, ReadOptions
from counterpoint.data.dataset import Dataset
from counterpoint.data.division import (
    DEFAULT_FRACTIONS,
    PART_NAMES,
    Flat,
    Fractions,
    divided_arrays,
    named_parts,
    with_all_parts,
)
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.flat import IDS, from_flat
from counterpoint.data.split import Array


def from_mapping(
    name: str,
    data: Mapping[str, Any],
    *,
    present: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    covariates: Mapping[str, Any] | None = None,
    modalities: Sequence[Modality] | None = None,
    fractions: Fractions = DEFAULT_FRACTIONS,
    seed: int = 0,
    options: ReadOptions = AS_IT_IS,
) -> Dataset:
    """Make a data set of arrays; see :func:`counterpoint.data.load`."""
    for option, told in (("present", present), ("labels", labels), ("covariates", covariates)):
        if told is not None and not hasattr(told, "items"):
            raise TypeError(
                f"{option}={shown(told)} must be a mapping of names to arrays, or a table"
            )
    columns = {m.name: m.features for m in modalities or () if m.features}
    if any(key in PART_NAMES for key in data) and all(
        isinstance(v, Mapping) for v in data.values()
    ):
        if present is not None or labels is not None or covariates is not None:
            raise ValueError(
                "with train, val and test given, put 'present/NAME', 'label/LABEL' and 'covariate/NAME' into each of them"
            )
        named = named_parts(name, [*data])
        parts, held = with_all_parts(
            name, {part: _flat(data[key], columns) for part, key in named.items()}, fractions, seed
        )
        _refuse_shared(parts)
        return from_flat(name, parts, modalities, held, options=options, tables=columns)
    items = {**data, **_under("present", present), **_under("covariate", covariates)}
    for label, values in _under("label", labels).items():
        items |= _under(label, values) if isinstance(values, Mapping) else {label: values}
    return from_flat(
        name,
        divided_arrays(_flat(items, columns), fractions, seed),
        modalities,
        options=options,
        tables=columns,
    )


def _refuse_shared(parts: Mapping[str, Flat]) -> None:
    """Refuse rows that stand in two splits by the names in the index of their tables,
    by ValueError. Numbers from 0 on are no names."""
    named = {part: flat[IDS] for part, flat in parts.items() if IDS in flat}
    named = {
        part: ids
        for part, ids in named.items()
        if not np.array_equal(ids, np.arange(len(ids)).astype(str))
    }
    for one, other in combinations(named, 2):
        shared = named[other][np.isin(named[other], named[one])]
        if len(shared):
            raise ValueError(
                f"{len(shared):,} rows stand in {one} and in {other}, {str(shared[0])!r} first; keep each row in one of them"
            )


def _under(head: str, given: Any) -> dict[str, Any]:
    """Arrays by name, or the columns of a table, under the names that they have beside
    others."""
    return {} if given is None else {f"{head}/{name}": values for name, values in given.items()}


def _flat(data: Mapping[str, Any], columns: dict[str, tuple[str, ...]]) -> Flat:
    """The arrays of a mapping, rows that belong together side by side
    (:func:`counterpoint.core.containers.together`).

    Args:
        columns: of tables, the order of their columns; those of tables that it lacks
            are put there.
    """
    strange = [key for key in data if not isinstance(key, str)]
    if strange:
        raise TypeError(f"arrays are named by text, not by {strange[0]!r}; give each a name")
    held = {}
    for key, value in data.items():
        one = given(key, value)
        if one.columns is not None and "/" not in key:
            one = one.ordered(key, columns.setdefault(key, one.columns))
        held[key] = one
    held, ids = together(held)
    flat: Flat = {} if ids is None else {IDS: ids}
    for key, one in held.items():
        flat[key] = _filled(key, one, held.get(key.partition("/")[2]))
    for key, one in held.items():
        if "/" not in key and one.absent.any():
            told = flat.get(f"present/{key}", np.ones(len(one.values), bool))
            known = as_mask(key, told, len(told))
            if len(known) == len(one.absent):
                known = known & ~one.absent
            flat[f"present/{key}"] = known
    return flat


def _filled(key: str, one: Given, of: Given | None) -> Array:
    """Values in which absent rows are filled: labels are masked there, and a mask of
    values that are absent, too, is False there.

    Args:
        of: what a mask is of.

    Raises:
        ValueError: covariates and masks must not lack rows.
    """
    head = key.partition("/")[0]
    values = one.values
    if head == "label":
        whole = one.ids is not None and values.dtype.kind == "f"
        absent = one.absent | np.isnan(values) if whole and values.ndim == 1 else one.absent
        if whole and not (values[~absent] != np.rint(values[~absent])).any():
            # Pandas keeps whole numbers as floats where some are missing.
            values = np.where(absent, 0, values).astype(np.int64)
        return np.ma.array(values, mask=absent) if absent.any() and values.ndim == 1 else values
    if head == "present" and one.absent.any():
        lacking = one.absent if of is None else one.absent & ~of.absent
        values = np.where(one.absent, np.zeros(1, values.dtype), values)
    else:
        lacking = one.absent if "/" in key else np.zeros(0, bool)
    if lacking.any():
        row = int(lacking.argmax())
        raise ValueError(
            f"array {key!r} lacks row {row if one.ids is None else repr(str(one.ids[row]))}; give a value for each row"
        )
    return values


def open_mapping(request: Request, options: ReadOptions) -> Dataset:
    """Open a mapping of arrays."""
    if request.labels is not None and not hasattr(request.labels, "items"):
        raise TypeError("'labels' of a mapping must be a mapping, not a list")
    assert isinstance(request.source, Mapping)
    return from_mapping(
        "mapping",
        request.source,
        present=request.present,
        labels=request.labels,
        covariates=request.covariates,
        modalities=request.records,
        fractions=request.fractions,
        seed=request.seed,
        options=options,
    )


SOURCE = Source(
    "mapping",
    "arrays, tables or sparse matrices in memory",
    ReadOptions,
    open_mapping,
    frozenset({"missing", "fractions", "present", "labels", "covariates", "modalities"}),
    infers=True,
)
