"""Leave out what cannot be used: observations without an id of their own, features that
do not vary, cells without counts, labels of one class.

Each function takes the ledger of faults, which refuses what is bad or lists it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from counterpoint.data.ambiguity import Zeros, warn_of_zeros
from counterpoint.data.division import Fractions
from counterpoint.data.faults import Faults, all_groups
from counterpoint.data.sources.assays import Assay, moments, zero_rows
from counterpoint.data.sources.observed import Observed
from counterpoint.data.split import Array

Constants = tuple[tuple[str, float], ...]
"""Features that are the same everywhere, and their values."""


def identified(
    assays: list[Assay], observed: Observed, parts: Array | Fractions, faults: Faults
) -> tuple[list[Assay], Observed, Array | Fractions]:
    """Return the observations that have an id of their own, known covariates and any of
    the modalities, which must share some."""
    good = _distinct(observed, faults) & np.any([a.present for a in assays], axis=0)
    for name, values in observed.covariates.items():
        lacking = good & _unknown(values)
        names = observed.ids[lacking]
        first = (
            f"observation {names[0]} has no value of the batch column {name!r}"
            if len(names)
            else ""
        )
        faults.group("unknown-batches", f"observations without {name}", names, first, "fill it in")
        good &= ~lacking
    if not good.all():
        kept = np.flatnonzero(good)
        assays = [replace(a, rows=a.rows[kept]) for a in assays]
        observed = observed.take(kept)
        parts = parts if isinstance(parts, tuple) else parts[kept]
    _check_shared(assays, observed, faults)
    return assays, observed, parts


def _distinct(observed: Observed, faults: Faults) -> Array:
    """Which observations have an id of their own, (N,) bool."""
    ids, number, count = np.unique(observed.ids, return_inverse=True, return_counts=True)
    repeated = ids[count > 1]
    first = f"observation {repeated[0]} stands in several rows" if len(repeated) else ""
    faults.group(
        "duplicates", "observations whose id repeats", repeated, first, "make the ids unique"
    )
    return np.asarray(count[number] == 1)


def _unknown(values: Array) -> Array | bool:
    """Where a covariate is NaN or empty."""
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    return np.asarray(values == "") if values.dtype.kind == "U" else False


def _check_shared(assays: Sequence[Assay], observed: Observed, faults: Faults) -> None:
    """Refuse a modality that shares no observation with any other."""
    for assay in assays if len(assays) > 1 else []:
        others = [other for other in assays if other is not assay]
        if not any((assay.present & other.present).any() for other in others):
            theirs = next(iter(observed.ids[others[0].present]), "none")
            own = next(iter(observed.ids[assay.present]), "none")
            raise ValueError(
                f"{faults.where}: modality {assay.name!r} shares no observation with another: its first id is {own}, that of"
                f" {others[0].name!r} is {theirs}; give the same observation the same id in both"
            )


def zeros_read(assay: Assay, zeros: Zeros) -> Assay:
    """Leave out the observations that are zero everywhere, if zeros are missing. Warn
    of them, if zeros are measured."""
    zero, nonzero = zero_rows(assay)
    if zeros == "missing":
        return assay.without(zero)
    if not assay.counts:  # those without counts are refused
        warn_of_zeros(assay.name, "cells", int(zero.sum()), nonzero, int(assay.present.sum()))
    return assay


def chosen(assay: Assay, train: Array, top_features: int | Mapping[str, int] | None) -> Assay:
    """Choose the features that vary most over the train rows, in the order of the
    table."""
    most = top_features.get(assay.name) if isinstance(top_features, Mapping) else top_features
    if most is not None and most < 1:
        raise ValueError(f"top_features {most} must be 1 or more")
    if most is None or most >= len(assay.features):
        return assay
    variance = moments(assay.of(train), logarithmic=assay.counts)[1]
    return assay.only(np.sort(np.argsort(-variance, kind="stable")[:most]))


def varying(assay: Assay, faults: Faults) -> tuple[Assay, Constants]:
    """Return the features that are not the same in all rows, and the others.

    Raises:
        ValueError: no observation has the modality, or no feature varies.
    """
    if not assay.present.any():
        after = f" when {all_groups(faults.groups, 1)} are skipped" if faults.groups else ""
        raise ValueError(f"{faults.where}: no observation has modality {assay.name!r}{after}")
    mean, variance = moments(assay.of(np.arange(len(assay.rows))))
    constant = variance == 0
    if constant.all():
        raise ValueError(f"{faults.where}: modality {assay.name!r} has no feature that varies")
    if not constant.any():
        return assay, ()
    names = map(str, assay.features[constant])
    constants = tuple(zip(names, mean[constant].tolist(), strict=True))
    return assay.only(~constant), constants


def counted(assay: Assay, ids: Array, faults: Faults) -> Assay:
    """Leave out the cells that have no counts."""
    if not assay.counts:
        return assay
    observations = np.flatnonzero(assay.present)
    empty = np.zeros(len(ids), bool)
    empty[observations] = np.asarray(assay.of(observations).sum(1)).ravel() == 0
    names = ids[empty]
    what = (
        f"modality {assay.name!r}: {names[0]} has no counts in the {len(assay.features)} features that are used"
        if len(names)
        else ""
    )
    remedy = (
        "filter empty cells, give zeros='missing' if they were not measured, or use more features"
    )
    faults.group("empty-cells", f"observations of {assay.name} without counts", names, what, remedy)
    return assay.without(empty)


def nonempty(assays: Sequence[Assay], part: Array, observed: Observed, faults: Faults) -> Array:
    """Return the split of each observation, and "" for observations that have no
    modality."""
    empty = ~np.any([a.present for a in assays], axis=0)
    names = observed.ids[empty]
    what = (
        f"observation {names[0]} has none of the modalities {', '.join(a.name for a in assays)}"
        if len(names)
        else ""
    )
    faults.group(None, "observations with nothing left", names, what, "drop it")
    return np.where(empty, "", part)


def telling(observed: Observed, assays: Sequence[Assay], train: Array, faults: Faults) -> Observed:
    """Leave out labels that have fewer than two classes in the train rows."""
    present = {a.name: a.present for a in assays}

    def tells(label: str, values: Array, here: Array) -> bool:
        known = np.unique(values[here & (values >= 0)])
        what = f"label {label!r} has {len(known)} class among the train rows, and a probe needs two"
        faults.group(
            "one-class-labels",
            "labels of one class",
            [label] if len(known) < 2 else [],
            what,
            "leave it out",
        )
        return len(known) > 1

    shared = {k: v for k, v in observed.labels.items() if tells(k, v, train)}
    private: dict[str, dict[str, Array]] = {}
    for label, by_assay in observed.private_labels.items():
        for name, values in by_assay.items():
            if tells(f"{label}/{name}", values, train & present[name]):
                private.setdefault(label, {})[name] = values
    return replace(observed, labels=shared, private_labels=private)
