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
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from counterpoint.core.containers import entries
from counterpoint.core.modality import COUNTS, Modality
from counterpoint.data.ambiguity import (
    CovariateKind,
    ReadOptions,
    Zeros,
    warn_of_totals,
    warn_of_zeros,
)
from counterpoint.data.dataset import Dataset
from counterpoint.data.sources.arrays import PARTS, from_flat, shuffled
from counterpoint.data.sources.assays import (
    UNIT,
    Account,
    Assay,
    SkipBad,
    checked,
    moments,
    told,
    zero_rows,
)
from counterpoint.data.split import Array

Fractions = tuple[float, float, float]


@dataclass(frozen=True)
class Observed:
    """What is known of the observations beside their assays.

    Attributes:
        ids: (N,) text.
        labels: by label, (N,) numbers of classes, negative where unknown.
        private_labels: by label, then by modality.
        covariates: by name, (N,) text, integers or floats: what decoders are told;
            ``""`` and NaN where unknown.
        classes: by label (LABEL, or LABEL/MODALITY), what its numbers stand for.
    """

    ids: Array
    labels: dict[str, Array] = field(default_factory=dict)
    private_labels: dict[str, dict[str, Array]] = field(default_factory=dict)
    covariates: dict[str, Array] = field(default_factory=dict)
    classes: dict[str, Sequence[str]] = field(default_factory=dict)

    def take(self, rows: Array) -> Observed:
        """Of some of the observations."""
        return replace(
            self,
            ids=self.ids[rows],
            labels={k: v[rows] for k, v in self.labels.items()},
            private_labels={
                k: {m: v[rows] for m, v in by.items()} for k, by in self.private_labels.items()
            },
            covariates={k: v[rows] for k, v in self.covariates.items()},
        )


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
    """A data set of the assays of some observations.

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
    account, options = (
        Account(name, skip_bad),
        ReadOptions(zeros=zeros, covariate_kinds=covariate_kinds or {}),
    )
    assays, observed, parts = _identified([*assays], observed, parts, account)
    assays = [checked(_zeros_read(assay, zeros), observed.ids, account) for assay in assays]
    part = divided(parts, assays, observed, seed) if isinstance(parts, tuple) else parts
    train = np.flatnonzero(part == "train")
    picked = [_chosen(a, train, top_features) for a in assays]
    chosen = [_counted(_varying(a, account), observed.ids, account) for a in picked]
    part = _nonempty(chosen, part, observed, account)
    observed = _telling(observed, chosen, part == "train", account)
    _affordable(name, chosen, len(part))
    units = {
        a.name: _units(a, train)
        for a in chosen
        if standardise and a.likelihood not in (*COUNTS, *UNIT)
    }
    about = {
        **(notes or {}),
        **_notes(assays, picked, chosen, units),
        **_classes(observed),
        **account.settle(),
    }
    rows = {p: np.flatnonzero(part == p) for p in PARTS}
    flat = {p: _flat(chosen, observed, rows[p], units) for p in PARTS}
    modalities = [
        Modality(
            a.name,
            (len(a.features),),
            a.likelihood,
            None,
            features=tuple(map(str, a.features)),
            units=tuple(map(tuple, units.get(a.name, ()))),
            constants=account.constants.get(a.name, ()),
        )
        for a in chosen
    ]
    for modality in modalities:
        warn_of_totals(modality)
    data = from_flat(name, flat, modalities, about, options=replace(options, zeros=None))
    named = {p: replace(split, ids=observed.ids[rows[p]]) for p, split in data.splits().items()}
    return replace(data, train=named["train"], val=named["val"], test=named["test"])


def _identified(
    assays: list[Assay], observed: Observed, parts: Array | Fractions, account: Account
) -> tuple[list[Assay], Observed, Array | Fractions]:
    """The observations that have an id of their own, known covariates and any of the
    modalities, which must share some."""
    ids, number, count = np.unique(observed.ids, return_inverse=True, return_counts=True)
    repeated = ids[count > 1]
    what = f"observation {repeated[0]} stands in several rows" if len(repeated) else ""
    account.bad(
        "duplicates", "observations whose id repeats", repeated, what, "make the ids unique"
    )
    good = (count[number] == 1) & np.any([a.present for a in assays], axis=0)
    for name, values in observed.covariates.items():
        lacking = good & (
            np.isnan(values)
            if values.dtype.kind == "f"
            else values == ""
            if values.dtype.kind == "U"
            else False
        )
        names = observed.ids[lacking]
        what = (
            f"observation {names[0]} has no value of the batch column {name!r}"
            if len(names)
            else ""
        )
        account.bad("unknown-batches", f"observations without {name}", names, what, "fill it in")
        good &= ~lacking
    if not good.all():
        kept = np.flatnonzero(good)
        assays = [replace(a, rows=a.rows[kept]) for a in assays]
        observed, parts = observed.take(kept), parts if isinstance(parts, tuple) else parts[kept]
    for assay in assays if len(assays) > 1 else []:
        others = [other for other in assays if other is not assay]
        if not any((assay.present & other.present).any() for other in others):
            there, here = (next(iter(observed.ids[a.present]), "none") for a in (others[0], assay))
            raise ValueError(
                f"{account.where}: modality {assay.name!r} shares no observation with another: its first id is {here}, that of"
                f" {others[0].name!r} is {there}; give the same observation the same id in both"
            )
    return assays, observed, parts


def divided(fractions: Fractions, assays: Sequence[Assay], observed: Observed, seed: int) -> Array:
    """(N,) of "train", "val", "test": at random, alike in every class of the first
    label and every set of modalities.

    Raises:
        ValueError: fractions that are none.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"fractions {fractions} of train, val and test must be positive and sum to 1"
        )
    order = shuffled(strata(observed, assays), seed)
    part = np.full(len(order), "train", "U5")
    for name, share in (("test", fractions[2]), ("val", fractions[1] / (1 - fractions[2]))):
        free = order[part[order] == "train"]
        part[free[np.diff(np.floor(np.arange(len(free) + 1) * share + 0.5)) > 0]] = (
            name  # evenly spaced
        )
    return part


def strata(observed: Observed, assays: Sequence[Assay]) -> Array:
    """(N,) numbers: observations of the same class of the first label that have the
    same modalities share one."""
    first = next(iter(observed.labels.values()), np.zeros(len(observed.ids), int))
    return np.unique(
        np.stack([first, *(a.present for a in assays)], 1), axis=0, return_inverse=True
    )[1].reshape(-1)


def _zeros_read(assay: Assay, zeros: Zeros) -> Assay:
    """The assay without the observations that are zero everywhere, if these are
    missing; a warning of them, if they are not."""
    zero, nonzero = zero_rows(assay)
    if zeros == "missing":
        return assay.without(zero)
    if not assay.counts:  # those without counts are refused
        warn_of_zeros(assay.name, "cells", int(zero.sum()), nonzero, int(assay.present.sum()))
    return assay


def _chosen(assay: Assay, train: Array, top_features: int | Mapping[str, int] | None) -> Assay:
    """The features that vary most over the train rows, in the order of the table."""
    most = top_features.get(assay.name) if isinstance(top_features, Mapping) else top_features
    if most is not None and most < 1:
        raise ValueError(f"top_features {most} must be 1 or more")
    if most is None or most >= len(assay.features):
        return assay
    variance = moments(assay.of(train), logarithmic=assay.counts)[1]
    return assay.only(np.sort(np.argsort(-variance, kind="stable")[:most]))


def _varying(assay: Assay, account: Account) -> Assay:
    """The features that are not the same in all rows."""
    if not assay.present.any():
        after = f" when {told(account.skipped, 1)} are skipped" if account.skipped else ""
        raise ValueError(f"{account.where}: no observation has modality {assay.name!r}{after}")
    mean, variance = moments(assay.of(np.arange(len(assay.rows))))
    constant = variance == 0
    names = assay.features[constant]
    if constant.all():
        raise ValueError(f"{account.where}: modality {assay.name!r} has no feature that varies")
    if not constant.any():
        return assay
    account.constant[f"constant features of {assay.name}"] = [*map(str, names)]
    account.constants[assay.name] = tuple(
        zip(map(str, names), mean[constant].tolist(), strict=True)
    )
    return assay.only(~constant)


def _counted(assay: Assay, ids: Array, account: Account) -> Assay:
    """The assay without the cells that have no counts."""
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
    account.bad("empty-cells", f"observations of {assay.name} without counts", names, what, remedy)
    return assay.without(empty)


def _nonempty(assays: Sequence[Assay], part: Array, observed: Observed, account: Account) -> Array:
    """The parts; none for observations that have nothing."""
    empty = ~np.any([a.present for a in assays], axis=0)
    names = observed.ids[empty]
    what = (
        f"observation {names[0]} has none of the modalities {', '.join(a.name for a in assays)}"
        if len(names)
        else ""
    )
    account.bad(None, "observations with nothing left", names, what, "drop it")
    return np.where(empty, "", part)


def _telling(
    observed: Observed, assays: Sequence[Assay], train: Array, account: Account
) -> Observed:
    """The labels that tell observations apart: of two classes or more in the train
    rows."""
    present = {a.name: a.present for a in assays}

    def tells(label: str, values: Array, here: Array) -> bool:
        known = np.unique(values[here & (values >= 0)])
        what = f"label {label!r} has {len(known)} class among the train rows, and a probe needs two"
        account.bad(
            "one-class-labels",
            "labels of one class",
            [label] if len(known) < 2 else [],
            what,
            "leave it out",
        )
        return len(known) > 1

    shared = {k: v for k, v in observed.labels.items() if tells(k, v, train)}
    private = {
        label: {
            name: v for name, v in by.items() if tells(f"{label}/{name}", v, train & present[name])
        }
        for label, by in observed.private_labels.items()
    }
    return replace(
        observed, labels=shared, private_labels={k: by for k, by in private.items() if by}
    )


def _affordable(name: str, assays: Sequence[Assay], observations: int) -> None:
    """Refuse what would take more than half of this machine's memory."""
    need, most = (
        observations * sum(len(a.features) * _dtype(a).itemsize for a in assays),
        memory() / 2,
    )
    if need > most:
        largest = max(assays, key=lambda a: len(a.features))
        raise ValueError(
            f"{name}: {observations:,} observations of {sum(len(a.features) for a in assays):,} features take {need / 1e9:,.3g} GB, more than half"
            f" of this machine's memory ({most / 1e9:,.3g} GB); keep fewer of the {len(largest.features):,} of {largest.name!r} by top_features"
        )


def memory() -> float:
    """Bytes of memory of this machine; infinite where it doesn't say."""
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
    """The arrays of one split by their names (:mod:`counterpoint.data.sources.arrays`)."""
    here = observed.take(rows)
    flat: dict[str, Array] = {f"label/{k}": v for k, v in here.labels.items()}
    flat |= {f"label/{k}/{m}": v for k, by in here.private_labels.items() for m, v in by.items()}
    flat |= {f"covariate/{k}": v for k, v in here.covariates.items()}
    for assay in assays:
        values = np.zeros((len(rows), len(assay.features)), _dtype(assay))
        table = assay.of(rows).astype(values.dtype)
        found = table.toarray() if hasattr(table, "toarray") else table
        present = assay.present[rows]
        if assay.name in units:
            mean, std = units[assay.name].astype(np.float32).T
            found = (found - mean) / std
        values[present] = found
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
) -> dict[str, str]:
    """What was done to the assays."""
    fewer = [
        (b, a) for b, a in zip(before, picked, strict=True) if len(a.features) < len(b.features)
    ]
    kept = "; ".join(
        f"{len(a.features):,} of the {len(b.features):,} of {a.name}" for b, a in fewer
    )
    size = sum(len(a.rows) * len(a.features) * _dtype(a).itemsize for a in after) / 1e6
    return {
        **({"features": f"{kept}, those that vary most over the train rows"} if kept else {}),
        **({"standardised": f"{', '.join(units)}, by the train rows"} if units else {}),
        "memory": f"{size:,.3g} MB",
    }
