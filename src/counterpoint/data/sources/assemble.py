"""From assays to a data set: observations divided, features chosen, values scaled,
presence from what was measured.

    counts x_nd            features by the variance of log(1 + x_nd · median(l) / l_n), l_n = Σ_d x_nd; kept as counts
    continuous x_nd        features by their variance; then (x_nd − mean_d) / std_d
    in [0, 1]              features by their variance; kept as they are

Whatever is estimated comes from the train rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from counterpoint.core.guesses import entries
from counterpoint.core.modality import COUNTS, Modality
from counterpoint.data.ambiguity import CovariateKind, ReadOptions, Zeros, warn_of_totals
from counterpoint.data.dataset import Dataset
from counterpoint.data.division import PARTS, Fractions
from counterpoint.data.faults import Faults, SkipBad, all_groups
from counterpoint.data.sources.assays import UNIT, Assay, checked, moments
from counterpoint.data.sources.filtering import (
    Constants,
    chosen,
    counted,
    identified,
    nonempty,
    telling,
    varying,
    zeros_read,
)
from counterpoint.data.sources.flat import from_flat
from counterpoint.data.sources.observed import Observed, divided
from counterpoint.data.split import Array


def assemble(
    name: str,
    assays: Sequence[Assay],
    observed: Observed,
    *,
    parts: Array | Fractions,
    seed: int = 0,
    top_features: int | Mapping[str, int] | None = None,
    standardise: bool = True,
    zeros: Zeros = "measured",
    covariate_kinds: Mapping[str, CovariateKind] | None = None,
    skip_bad: SkipBad = False,
    notes: Mapping[str, str] | None = None,
) -> Dataset:
    """Make a data set of the assays of some observations.

    >>> from counterpoint.data.sources.assays import Assay
    >>> names = np.array(["g0", "g1"])
    >>> values = np.random.default_rng(0).normal(size=(20, 2))
    >>> assay = Assay("rna", values, np.arange(20), names, "normal")
    >>> ids = np.arange(20).astype(str)
    >>> assemble("cells", [assay], Observed(ids=ids), parts=(0.5, 0.25, 0.25))
    Dataset 'cells': 10 train, 5 val, 5 test rows
    rna 2 normal
    note on standardised: rna, by the train rows
    note on memory: 0.00016 MB

    Args:
        name: of the data set, or the file that errors name.
        parts: (N,) of "train", "val" and "test", or the shares to divide by: at random,
            alike in every class of the first label and in every set of modalities that
            observations have.
        seed: of the division.
        top_features: how many features of a modality to keep, those that vary most; by
            modality, or of each that has more.
        standardise: shift and scale continuous features to mean 0 and variance 1.
        zeros: ``"missing"``: an observation that is zero everywhere in an assay was not
            measured by it.
        covariate_kinds: by name, whether a covariate is a category or a number.
        skip_bad: leave out what is bad, or some kinds of it, with a warning and a note
            that list it, instead of refusing it.
        notes: what else readers of results must know.

    Raises:
        ValueError: bad values (:func:`counterpoint.data.sources.assays.checked`), ids
            that repeat or that modalities don't share, no feature that varies, cells
            without counts, labels of one class, or more values than half of this
            machine's memory holds.
    """
    faults = Faults(name, skip_bad)
    kinds = ReadOptions(zeros=zeros, covariate_kinds=covariate_kinds or {})
    assays, observed, parts = identified([*assays], observed, parts, faults)
    assays = [checked(zeros_read(assay, zeros), observed.ids, faults) for assay in assays]
    part = divided(parts, assays, observed, seed) if isinstance(parts, tuple) else parts
    train = np.flatnonzero(part == "train")
    picked = [chosen(assay, train, top_features) for assay in assays]
    varied = [varying(assay, faults) for assay in picked]
    kept = [counted(assay, observed.ids, faults) for assay, _ in varied]
    constants = {assay.name: same for assay, same in varied if same}
    part = nonempty(kept, part, observed, faults)
    observed = telling(observed, kept, part == "train", faults)
    _affordable(name, kept, len(part))
    scaled = [a for a in kept if standardise and a.likelihood not in (*COUNTS, *UNIT)]
    units = {assay.name: _units(assay, train) for assay in scaled}
    about = {
        **(notes or {}),
        **_notes(assays, picked, kept, units, constants),
        **_classes(observed),
        **faults.settle(),
    }
    rows = {p: np.flatnonzero(part == p) for p in PARTS}
    flat = {p: _flat(kept, observed, rows[p], units) for p in PARTS}
    modalities = [_modality(assay, units, constants) for assay in kept]
    for modality in modalities:
        warn_of_totals(modality)
    data = from_flat(name, flat, modalities, about, options=replace(kinds, zeros=None))
    named = {}
    for name, split in data.splits().items():
        named[name] = replace(split, ids=observed.ids[rows[name]])
    return replace(data, train=named["train"], val=named["val"], test=named["test"])


def _modality(
    assay: Assay, units: Mapping[str, Array], constants: Mapping[str, Constants]
) -> Modality:
    """What the values of an assay look like."""
    return Modality(
        assay.name,
        (len(assay.features),),
        assay.likelihood,
        None,
        features=tuple(map(str, assay.features)),
        units=tuple(map(tuple, units.get(assay.name, ()))),
        constants=constants.get(assay.name, ()),
    )


def _affordable(name: str, assays: Sequence[Assay], observations: int) -> None:
    """Refuse what would take more than half of this machine's memory."""
    need = observations * sum(len(a.features) * _dtype(a).itemsize for a in assays)
    most = memory() / 2
    if need > most:
        largest = max(assays, key=lambda a: len(a.features))
        raise ValueError(
            f"{name}: {observations:,} observations of {sum(len(a.features) for a in assays):,} features take {need / 1e9:,.3g} GB, more than half"
            f" of this machine's memory ({most / 1e9:,.3g} GB); keep fewer of the {len(largest.features):,} of {largest.name!r} by top_features"
        )


def memory() -> float:
    """Return the bytes of memory of this machine, or infinity if they are not known.

    >>> memory() > 1e9
    True
    """
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return np.inf


def _dtype(assay: Assay) -> np.dtype[Any]:
    """Counts take as few bytes as they need; other values four."""
    if not assay.counts:
        return np.dtype(np.float32)
    largest = np.nanmax(entries(assay.values), initial=0)
    return np.dtype(
        next((kind for kind in (np.uint8, np.int16) if largest <= np.iinfo(kind).max), np.int64)
    )


def _units(assay: Assay, train: Array) -> Array:
    """Mean and standard deviation of each feature over the train rows, (d, 2); 1 where
    a feature varies outside them alone."""
    mean, variance = moments(assay.of(train))
    return np.stack([mean, np.sqrt(np.where(variance > 0, variance, 1))], 1)


def _flat(
    assays: Sequence[Assay], observed: Observed, rows: Array, units: Mapping[str, Array]
) -> dict[str, Array]:
    """The arrays of one split by name (:mod:`counterpoint.data.sources.flat`)."""
    own = observed.take(rows)
    flat: dict[str, Array] = {f"label/{k}": v for k, v in own.labels.items()}
    for label, by_assay in own.private_labels.items():
        for name, values in by_assay.items():
            flat[f"label/{label}/{name}"] = values
    flat |= {f"covariate/{k}": v for k, v in own.covariates.items()}
    for assay in assays:
        values = np.zeros((len(rows), len(assay.features)), _dtype(assay))
        table = assay.of(rows).astype(values.dtype)
        measured = table.toarray() if hasattr(table, "toarray") else table
        present = assay.present[rows]
        if assay.name in units:
            mean, std = units[assay.name].astype(np.float32).T
            measured = (measured - mean) / std
        values[present] = measured
        flat |= {assay.name: values, f"present/{assay.name}": present}
    return flat


def _classes(observed: Observed) -> dict[str, str]:
    """What the numbers of labels stand for."""
    kept = {
        *observed.labels,
        *(f"{label}/{name}" for label, by in observed.private_labels.items() for name in by),
    }
    return {
        f"label/{label}": ", ".join(classes)
        for label, classes in observed.classes.items()
        if label in kept
    }


def _notes(
    before: Sequence[Assay],
    picked: Sequence[Assay],
    after: Sequence[Assay],
    units: Mapping[str, Array],
    constants: Mapping[str, Constants],
) -> dict[str, str]:
    """What was done to the assays."""
    fewer = [
        (b, a) for b, a in zip(before, picked, strict=True) if len(a.features) < len(b.features)
    ]
    kept = "; ".join(
        f"{len(a.features):,} of the {len(b.features):,} of {a.name}" for b, a in fewer
    )
    sizes = [len(a.rows) * len(a.features) * _dtype(a).itemsize for a in after]
    size = sum(sizes) / 1e6
    same = {}
    for name, features in constants.items():
        same[f"constant features of {name}"] = [feature for feature, _ in features]
    return {
        **({"constant": f"left out {all_groups(same)}"} if same else {}),
        **({"features": f"{kept}, those that vary most over the train rows"} if kept else {}),
        **({"standardised": f"{', '.join(units)}, by the train rows"} if units else {}),
        "memory": f"{size:,.3g} MB",
    }
