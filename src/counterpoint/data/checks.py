"""Check the arrays of a split: names, lengths, dtypes, shapes and values.

Each function returns what it checked in the form in which a split keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from counterpoint.core.modality import Modality, covariates_of
from counterpoint.core.reading import as_mask, wrong_row
from counterpoint.data.images import Pictures

Array = np.ndarray


def check_names(modalities: Sequence[Modality], named: Mapping[str, Mapping[str, Array]]) -> None:
    """Check that modalities have names of their own, and that arrays use these names.

    Args:
        modalities: of the split.
        named: by what messages call them, arrays by modality.

    Raises:
        ValueError: a name that repeats, or an array of an unknown modality.
    """
    names = [modality.name for modality in modalities]
    if len(set(names)) < len(names):
        raise ValueError(
            f"modality names repeat in {', '.join(names)}; give each modality its own name"
        )
    for what, arrays in named.items():
        unknown = [name for name in arrays if name not in names]
        if unknown:
            raise ValueError(
                f"{what} names unknown modality {unknown[0]!r}; the modalities are {', '.join(names)}"
            )


def row_count(x: Mapping[str, Array]) -> int:
    """Count the rows that all modalities have.

    Raises:
        ValueError: no rows, or modalities of different lengths.
    """
    rows = len(next(iter(x.values())))
    if rows == 0:
        raise ValueError("a split is empty; give it at least one row")
    lengths = {name: len(values) for name, values in x.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"modalities have different numbers of rows: {lengths}; mark missing rows in 'present' instead of leaving them out"
        )
    return rows


def presence(
    modalities: Sequence[Modality], x: Mapping[str, Array], masks: Mapping[str, Array], rows: int
) -> dict[str, Array]:
    """Return which rows each modality has, (N,) bool by modality.

    Raises:
        ValueError: a mask for a modality without values, or a row that has nothing.
    """
    names = [modality.name for modality in modalities]
    present = {name: _mask(name, masks.get(name), rows, name in x) for name in names}
    missing = ~np.logical_or.reduce(list(present.values()))
    if missing.any():
        raise ValueError(
            f"row {int(missing.argmax())} has every modality missing; drop such rows from the data"
        )
    return present


def _mask(name: str, mask: Array | None, rows: int, has_values: bool) -> Array:
    if mask is None:
        return np.full(rows, has_values)
    checked = as_mask(name, mask, rows)
    if checked.any() and not has_values:
        raise ValueError(
            f"'present' names {name!r}, which has no values; give values for it or mark it absent"
        )
    return checked


def modality_values(modality: Modality, values: Array | None, present: Array) -> Array:
    """Return the values of a modality, (N, *shape); zeros where it has none.

    Raises:
        TypeError: a dtype that the likelihood does not take.
        ValueError: another shape, or a value that the likelihood does not take.
    """
    categorical = modality.likelihood == "categorical"
    if values is None:  # a broadcast zero costs no memory
        zero = np.zeros((1, *modality.shape), modality.dtype)
        return np.broadcast_to(zero, (len(present), *modality.shape))
    array = values if isinstance(values, np.memmap | Pictures) else np.asarray(values)
    if array.dtype.kind not in ("iu" if categorical else "uif"):
        kind = "integers" if categorical else "uint8, integers or floats"
        raise TypeError(
            f"modality {modality.name!r}: dtype {array.dtype} is not supported; give {kind}"
        )
    if array.shape[1:] != modality.shape:
        raise ValueError(
            f"modality {modality.name!r}: rows have shape {array.shape[1:]}, expected {modality.shape}"
        )
    if not isinstance(array, np.memmap) and (wrong := wrong_row(modality, array, present)):
        raise ValueError(f"modality {modality.name!r}: row {wrong[0]} {wrong[1]}")
    return array


def label_numbers(name: str, values: Array, rows: int) -> Array:
    """Return the class numbers of a label, (N,) int64.

    Raises:
        TypeError: no integers. ValueError: another shape.
    """
    label = np.asarray(values)
    if label.dtype.kind not in "iub":
        raise TypeError(
            f"label {name!r} has dtype {label.dtype}, expected integers (class numbers)"
        )
    if label.shape != (rows,):
        raise ValueError(f"label {name!r} has shape {label.shape}, expected ({rows},)")
    return label.astype(np.int64)


def row_ids(ids: Array | None, rows: int) -> Array | None:
    """Return the names of the rows, (N,) text, or None.

    Raises:
        ValueError: another shape.
    """
    names = None if ids is None else np.asarray(ids, str)
    if names is not None and names.shape != (rows,):
        raise ValueError(f"ids have shape {names.shape}, expected ({rows},)")
    return names


def covariate_columns(
    values: Array | None, names: tuple[str, ...], modalities: tuple[Modality, ...], rows: int
) -> Array:
    """Return the covariates, (N, C) float32.

    Raises:
        ValueError: names that the modalities do not have, another shape, NaN or
            infinity.
    """
    if (read := covariates_of(modalities)) and read != names:
        raise ValueError(
            f"decoders are to read the covariates {', '.join(read)}, and the data have {', '.join(names) or 'none'}; name all of them"
        )
    columns = np.zeros((rows, 0), np.float32) if values is None else np.asarray(values, np.float32)
    if columns.shape != (rows, len(names)):
        raise ValueError(
            f"covariates have shape {columns.shape}, expected ({rows}, {len(names)}): a column for each of their names"
        )
    good = np.isfinite(columns).all(1)
    if not good.all():
        raise ValueError(
            f"row {int(good.argmin())} has a covariate of NaN or infinity; fill it in, or drop the row"
        )
    return columns
