"""Make a data set of the named arrays of its three splits.

``NAME`` holds the values of a modality, ``present/NAME`` its mask, ``label/LABEL`` a
shared label, ``label/LABEL/NAME`` a private one, and ``covariate/NAME`` what decoders
may read beside latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from counterpoint.core.modality import Modality, covariates_of
from counterpoint.core.reading import as_mask, whole_numbers
from counterpoint.data.ambiguity import AS_IT_IS, ReadOptions, covariates_of_kinds, zeros_read
from counterpoint.data.dataset import Dataset
from counterpoint.data.division import PARTS, Flat
from counterpoint.data.sources.covariates import columns_of
from counterpoint.data.sources.inference import all_nan, as_values, feature_names, has_gaps, infer
from counterpoint.data.sources.labels import number_labels
from counterpoint.data.split import COVARIATES, Array, Split

IDS = "rows/ids"
"""Name of the array of what rows are called."""


def from_flat(
    name: str,
    parts: Mapping[str, Flat],
    modalities: Sequence[Modality] | None = None,
    notes: Mapping[str, str] | None = None,
    digest: str | None = None,
    *,
    options: ReadOptions = AS_IT_IS,
    tables: Mapping[str, tuple[str, ...]] | None = None,
) -> Dataset:
    """Make a data set of the named arrays of its three splits.

    Args:
        parts: by split, its arrays by name.
        modalities: those of the arrays; by default inferred from the values.
        notes: what readers of results must know.
        digest: checksum, where it is known.
        options: how arrays are read.
        tables: of modalities that are tables: what their features are called, () where
            they have no names.

    Raises:
        ValueError, TypeError: an array of an unknown name, or values that do not fit.
    """
    parts, classes = number_labels(parts)
    parts = covariates_of_kinds(parts, options.covariate_kinds)
    covariates = columns_of(parts, covariates_of(modalities or ()))
    arrays = _arrays(parts, modalities)
    known = _modalities(arrays, modalities, tables or {}, options)
    if not covariates_of(known):
        known = tuple(
            replace(m, covariates=covariates.names, covariate_units=covariates.units) for m in known
        )
    splits = {}
    for part in PARTS:
        x = {key: values[part] for key, values in arrays.items() if part in values}
        splits[part] = _split(
            part, parts[part], x, known, covariates.values[part], covariates.names
        )
    if options.zeros is not None:
        splits = zeros_read(splits, options.zeros)
    about = {**(notes or {}), **classes, **covariates.notes}
    return Dataset(name, known, splits["train"], splits["val"], splits["test"], about, digest)


def _arrays(
    parts: Mapping[str, Flat], modalities: Sequence[Modality] | None
) -> dict[str, dict[str, Array]]:
    """The values of each modality by split, in the axes of the modality.

    Raises:
        ValueError: values of none of the modalities that are given.
    """
    named = {m.name: m for m in modalities or ()}
    all_keys = dict.fromkeys(key for part in PARTS for key in parts[part])
    keys = [key for key in all_keys if "/" not in key]
    unknown = [key for key in keys if modalities and key not in named]
    if unknown:
        raise ValueError(
            f"array {unknown[0]!r} belongs to none of the modalities {', '.join(named)}; add a Modality for it or leave it out"
        )
    arrays = {}
    for key in keys:
        there = [part for part in PARTS if key in parts[part]]
        modality = named.get(key)
        arrays[key] = {part: as_values(key, parts[part][key], modality) for part in there}
    return arrays


def _modalities(
    arrays: Mapping[str, Mapping[str, Array]],
    modalities: Sequence[Modality] | None,
    tables: Mapping[str, tuple[str, ...]],
    options: ReadOptions,
) -> tuple[Modality, ...]:
    """The modalities that are given or inferred, with names of features and gaps."""
    known = modalities or [
        infer(key, list(values.values()), columns=tables.get(key)) for key, values in arrays.items()
    ]
    complete = []
    for modality in known:
        features = modality.features or feature_names(modality, tables.get(modality.name, ()))
        values = arrays.get(modality.name, {}).values()
        gaps = options.nan == "missing" and any(map(has_gaps, values))
        complete.append(replace(modality, features=features, gaps=modality.gaps or gaps))
    return tuple(complete)


def _split(
    part: str,
    flat: Flat,
    x: Flat,
    modalities: tuple[Modality, ...],
    covariates: Array,
    covariate_names: tuple[str, ...],
) -> Split:
    """One split of the arrays. Rows that are NaN everywhere are absent."""
    present, shared, private = _beside(flat, bool(covariate_names))
    known = {m.name: m for m in modalities}
    for name, values in x.items():
        if values.dtype.kind == "b":
            x[name] = whole_numbers(known[name], values)
        elif values.dtype.kind == "f" and (
            name not in present or len(present[name]) == len(values)
        ):
            present[name] = present.get(name, True) & ~all_nan(values)
    try:
        return Split(
            x, modalities, present, shared, private, covariates, covariate_names, flat.get(IDS)
        )
    except (ValueError, TypeError) as error:
        raise type(error)(f"{part}: {error}") from error


def _beside(
    flat: Flat, has_covariates: bool
) -> tuple[dict[str, Array], dict[str, Array], dict[str, dict[str, Array]]]:
    """Masks, shared labels and private labels among the arrays of a split.

    Raises:
        ValueError: an array with a name that means nothing, or that no file could have.
    """
    present: dict[str, Array] = {}
    shared: dict[str, Array] = {}
    private: dict[str, dict[str, Array]] = {}
    for key, values in flat.items():
        if {"", ".", ".."} & {*key.split("/")} or any(sign in key for sign in "\\\0"):
            raise ValueError(
                f"array {key!r} is no name that a file could have; name it without '..', '\\' and empty parts"
            )
        match key.split("/"):
            case [_] | ["covariate", *_]:
                continue
            case ["present", name]:
                present[name] = as_mask(name, values, len(values))
            case ["label", label]:
                shared[label] = values
            case ["label", label, name]:
                private.setdefault(label, {})[name] = values
            case _ if key == IDS or (key == COVARIATES and has_covariates):
                continue
            case _:
                expected = "NAME, present/NAME, label/LABEL, label/LABEL/NAME or covariate/NAME"
                raise ValueError(f"array {key!r} is not understood; expected {expected}")
    return present, shared, private
