"""Infer from dtype and shape what values are, and give them the axes of a modality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from counterpoint.core.guesses import inferred
from counterpoint.core.modality import Modality
from counterpoint.core.reading import turned

Array = np.ndarray

CHANNELS = (1, 3, 4)
"""Channels that images have, as a rule."""

_LOOKED = 1000  # images that are looked at for whether they are masks


def infer(
    name: str, arrays: Sequence[Array], *, columns: tuple[str, ...] | None = None
) -> Modality:
    """Infer from dtype and shape what values are.

    uint8 images and float images in [0, 1]: Laplace, b = 0.75; uint8 images of 0 and 1
        alone are masks: Bernoulli.
    Other floats: normal with a learned scale, and images of them unbounded. Booleans:
        Bernoulli.
    Integers: ids of a vocabulary that ends with the largest id; of a table counts
        (negative binomial), or Bernoulli where all are 0 or 1.

    Args:
        columns: of a table, whose columns, if there are several, are features and no
            places in a text; () of a sparse matrix, floats of which may be counts, too.
    """
    first = arrays[0]
    shape = first.shape[1:]
    counts = (
        columns is not None and shape != (1,) and first.dtype.kind in ("iu" if columns else "iuf")
    )
    if counts and (family := inferred(np.concatenate([*arrays]))) != "normal":
        return Modality(name, shape, family, None)
    if first.dtype.kind in "iu" and len(shape) < 3:
        top = max(int(a.max(initial=0)) for a in arrays)
        return Modality(name, shape, "categorical", None, classes=max(2, top + 1))
    if first.dtype == np.uint8:
        if (
            max(int(a[:_LOOKED].max(initial=0)) for a in arrays) == 1
        ):  # a mask, and no picture that is all but black
            return Modality(name, shape, "bernoulli", None, full_scale=1)
        return Modality(name, shape, "laplace", 0.75)
    if first.dtype.kind in "iu":
        raise TypeError(
            f"modality {name!r}: {first.dtype} images of shape {shape} are ambiguous; store them as uint8, or give its Modality"
        )
    if first.dtype.kind == "b":
        return Modality(name, shape, "bernoulli", None, full_scale=1)
    image = len(shape) == 3
    if image and all(not ((a < 0) | (a > 1)).any() for a in arrays):
        return Modality(name, shape, "laplace", 0.75)
    return Modality(name, shape, "normal", None, unbounded=image)


def as_values(name: str, values: Array, modality: Modality | None) -> Array:
    """Give values the axes of a modality: a feature axis for numbers, channels first
    for images, whatever their dtype.

    Raises:
        TypeError: text. ValueError: numbers beyond float32, or images of which no axis
            stands out as that of channels.
    """
    if values.dtype.kind in "US":
        raise TypeError(
            f"modality {name!r} holds text; give word ids, or name it 'label/{name}' if it is a label"
        )
    if values.dtype.kind == "f" and values.dtype != np.float32:
        values = _float32(name, values)
    shape = values.shape[1:]
    if modality is not None:
        return turned(modality, values)
    if values.ndim in (1, 3):
        return values[:, None]
    return (
        values.transpose(0, 3, 1, 2) if values.ndim == 4 and _channels_last(name, shape) else values
    )


def _float32(name: str, values: Array, block: int = 4096) -> Array:
    """Floats of another precision as float32; memory maps are read block by block."""
    found = np.empty(values.shape, np.float32)
    for i in range(0, len(values), block):
        with np.errstate(over="ignore"):
            found[i : i + block] = values[i : i + block]
        rows = slice(i, i + block)
        beyond = np.isinf(found[rows]) & np.isfinite(values[rows])
        if beyond.any():
            row = int(beyond.reshape(len(beyond), -1).any(1).argmax())
            raise ValueError(
                f"modality {name!r}: row {i + row} holds {values[i + row][beyond[row]].ravel()[0]:g}, more than float32 holds; rescale it"
            )
    return found


def _channels_last(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the last axis of an image is that of channels, and not the first: it has
    as many entries as images have channels, or the other two are as long as each other.

    Raises:
        ValueError: one says this and the other that, or neither says anything.
    """
    first, middle, last = shape
    by_count = (last in CHANNELS) - (first in CHANNELS)
    by_square = (first == middle) - (middle == last)
    if shape == (1, 1, 1):
        return False
    if by_count * by_square < 0 or (
        not by_count and not by_square and not (first < min(middle, last) and last not in CHANNELS)
    ):
        turned = (last, first, middle)
        raise ValueError(
            f"modality {name!r}: images of shape {shape} may have their channels first or last; put them first and give"
            f" modalities=[Modality({name!r}, {shape}, ...)]"
            + ("" if turned == shape else f", or {turned} if they are last")
        )
    return (by_count or by_square) > 0


def all_nan(values: Array, block: int = 4096) -> Array:
    """Return which rows are NaN entirely, (N,) bool: tables mark what is missing so.
    Memory maps are read block by block."""
    parts = [
        np.isnan(values[i : i + block]).reshape(len(values[i : i + block]), -1).all(1)
        for i in range(0, len(values), block)
    ]
    return np.concatenate([np.zeros(0, bool), *parts])


def has_gaps(values: Array, block: int = 4096) -> bool:
    """Whether some row is NaN in part."""
    if values.dtype.kind != "f":
        return False
    parts = (
        np.isnan(values[i : i + block]).reshape(len(values[i : i + block]), -1)
        for i in range(0, len(values), block)
    )
    return any(bool((part.any(1) & ~part.all(1)).any()) for part in parts)


def feature_names(modality: Modality, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the columns of a table, if they are those of the entries of a
    vector."""
    return columns if modality.shape == (len(columns),) else ()
