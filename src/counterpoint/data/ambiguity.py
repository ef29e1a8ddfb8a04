"""Values with more than one meaning: options that settle it, and warnings where nobody
did.

Padding looks like a measurement of zero, the number of a batch like a quantity, counts
that were scaled like logarithms. A reader takes them for what their dtype and shape
say, and one warning names the remedy.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from counterpoint.core.guesses import doubtful
from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.split import Array, Split

MOST_VALUES = 1000
"""Most values of a covariate that is no quantity."""

Nan = Literal["error", "missing"]

Zeros = Literal["measured", "missing"]

CovariateKind = Literal["category", "number"]

_FEW = 20  # values of whole floats that may as well be names

_ZEROS = 0.01  # share of rows of zeros from which on they are looked at

_LOOKED = 10_000  # rows that are looked at for what values look like

_CHANCE = 3  # times as many rows of zeros as independent features would make are no chance


@dataclass(frozen=True)
class ReadOptions:
    """How arrays with more than one meaning are read.

    Args:
        nan: "missing" takes NaN in part of a row for entries that are missing; "error"
            for a mistake.
        zeros: "missing" takes a row of a vector that is zero everywhere for one that
            was not measured; "measured" for a measurement. None does not look.
        covariate_kinds: by name, "number" (one column) or "category" (a column for each
            value).

    Raises:
        ValueError: an unknown choice.
    """

    nan: Nan = "error"
    zeros: Zeros | None = "measured"
    covariate_kinds: Mapping[str, CovariateKind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for option, value, choices in (("nan", self.nan, Nan), ("zeros", self.zeros, Zeros)):
            if value is not None and value not in get_args(choices):
                raise ValueError(
                    f"{option}={value!r} is unknown; choose one of {', '.join(get_args(choices))}"
                )
        if not isinstance(self.covariate_kinds, Mapping):
            raise TypeError(
                f"covariate_kinds is {self.covariate_kinds!r}; give a mapping such as {{'run': 'category'}}"
            )
        for name, kind in self.covariate_kinds.items():
            if kind not in get_args(CovariateKind):
                raise ValueError(
                    f"covariate_kinds calls {name!r} {kind!r}; choose one of {', '.join(get_args(CovariateKind))}"
                )


AS_IT_IS = ReadOptions()
"""Nothing is said, and nothing is missing."""


def covariates_of_kinds(
    parts: Mapping[str, dict[str, Array]], kinds: Mapping[str, CovariateKind]
) -> dict[str, dict[str, Array]]:
    """Return the arrays, with covariates as floats where they are numbers and as text
    where they are categories.

    Where nobody said which, a warning names covariates that look like the other.

    Raises:
        ValueError: a kind for something that is no covariate, or text for a number.
    """
    read = {part: dict(flat) for part, flat in parts.items()}
    keys = dict.fromkeys(key for flat in parts.values() for key in flat)
    names = [key.removeprefix("covariate/") for key in keys if key.startswith("covariate/")]
    unknown = [name for name in kinds if name not in names]
    if unknown:
        raise ValueError(
            f"covariate_kinds names {unknown[0]!r}; the covariates are {', '.join(names) or 'none'}"
        )
    for name in names:
        key = f"covariate/{name}"
        by_part = {part: flat[key] for part, flat in parts.items() if key in flat}
        if name not in kinds:
            _doubt(name, np.concatenate([values.ravel() for values in by_part.values()]))
            continue
        for part, values in by_part.items():
            number = kinds[name] == "number"
            read[part][key] = _numbers(name, values) if number else _categories(values)
    return read


def _doubt(name: str, values: Array) -> None:
    """Warn of numbers that look like categories, and of the reverse."""
    known = np.unique(values[np.isfinite(values)] if values.dtype.kind == "f" else values)
    if values.dtype.kind == "f":
        if 1 < len(known) <= min(_FEW, len(values) / 2) and not (known != np.rint(known)).any():
            warnings.warn(
                f"covariate {name!r} holds the whole numbers {known[0]:g} to {known[-1]:g} as floats and is read as one number;"
                f" give covariate_kinds={{{name!r}: 'category'}} if they are names, and 'number' if not",
                stacklevel=2,
            )
    elif len(known) <= MOST_VALUES and (
        len(known) > max(2, len(values) / 2) or (values.dtype.kind in "iu" and len(known) > _FEW)
    ):
        warnings.warn(
            f"covariate {name!r} has {len(known):,} values in {len(values):,} rows, and each is a column;"
            f" leave it out, or give covariate_kinds={{{name!r}: 'number'}} if it is a quantity, and 'category' if not",
            stacklevel=2,
        )


def _numbers(name: str, values: Array) -> Array:
    try:
        return values.astype(np.float64)
    except ValueError as error:
        raise ValueError(
            f"covariate {name!r} is no number ({error}); leave it out of covariate_kinds, or call it a category"
        ) from None


def _categories(values: Array) -> Array:
    """Names for numbers: 1 and not 1.0; no name for NaN, of which nothing is known."""
    if values.dtype.kind != "f":
        return values.astype(str)
    known = ~np.isnan(values)
    names = [
        f"{value:.0f}" if value == np.rint(value) else str(value)
        for value in np.where(known, values, 0).tolist()
    ]
    return np.where(known, names, "")


def zero_rows(values: Array, block: int = 4096) -> Array:
    """Return which rows are zero everywhere, (N,) bool. Memory maps are read block by
    block."""
    parts = [
        (values[i : i + block] == 0).reshape(len(values[i : i + block]), -1).all(1)
        for i in range(0, len(values), block)
    ]
    return np.concatenate([np.zeros(0, bool), *parts])


def warn_of_zeros(name: str, rows: str, zero: int, nonzero: Array, count: int) -> None:
    """Warn of rows of zeros that independent features would not make.

    Args:
        rows: what rows are called.
        zero: how many of ``count`` rows are zero everywhere.
        nonzero: (d,) in how many each feature is not.
    """
    with np.errstate(divide="ignore"):
        chance = np.exp(np.log1p(-nonzero / max(count, 1)).sum())
    if len(nonzero) > 1 and 1 < zero < count and zero > count * max(_ZEROS, _CHANCE * chance):
        warnings.warn(
            f"{zero:,} of {count:,} {rows} of {name} are zero everywhere, and count as measured; give zeros='missing' if they were not",
            stacklevel=2,
        )


def zeros_read(splits: dict[str, Split], zeros: Zeros) -> dict[str, Split]:
    """Return the splits, in which rows of zeros of vectors are absent if zeros are
    missing. If they are measured, warn of such rows."""
    for modality in splits["train"].modalities:
        name = modality.name
        if len(modality.shape) != 1 or modality.likelihood == "categorical":
            continue
        zero = 0
        count = 0
        nonzero = np.zeros(modality.shape)
        for part, split in splits.items():
            values = split.x[name]
            here = split.present[name]
            if zeros == "missing":
                splits[part] = replace(
                    split, present={**split.present, name: here & ~zero_rows(values)}
                )
            elif not isinstance(values, np.memmap):
                zero = zero + int((here & zero_rows(values)).sum())
                count = count + int(here.sum())
                nonzero += ((values != 0) & here[:, None]).sum(0)
        warn_of_zeros(name, "rows", zero, nonzero, count)
    return splits


def warn_of_likelihoods(data: Dataset, *, inferred: bool) -> None:
    """Warn of modalities whose values look as if another likelihood would fit better.

    Args:
        inferred: nobody named the likelihoods.
    """
    for modality in data.modalities:
        warn_of_totals(modality)
        if not inferred or modality.likelihood != "normal":
            continue
        some = data.train if isinstance(data.train, Split) else data.val
        present = some.present[modality.name][:_LOOKED]
        values = np.asarray(some.x[modality.name][:_LOOKED])[present]
        if len(modality.shape) == 1 and modality.shape[0] > 1 and (why := doubtful(values)):
            warnings.warn(f"modality {modality.name!r} {why}", stacklevel=3)
        whole = (
            modality.unbounded
            and values.size
            and values.min() >= 0
            and values.max() <= 255
            and not (values != np.rint(values)).any()
        )
        if whole:
            warnings.warn(
                f"modality {modality.name!r} holds floats that are whole numbers up to {values.max():g}, and is read as images without bounds;"
                " store them as uint8 if they are pixels",
                stacklevel=3,
            )


def warn_of_totals(modality: Modality) -> None:
    """Warn of counts with a single feature."""
    if modality.counts and modality.shape == (1,):
        warnings.warn(
            f"modality {modality.name!r} has one feature, and its likelihood {modality.likelihood!r} is told the total of a row, so that latents"
            " need not know it; give more features, or log1p of it as 'normal'",
            stacklevel=3,
        )
