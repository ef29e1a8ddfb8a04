"""The one door for values: what a person gives becomes what a model sees, or one line
says what differs.

A modality says how its values are read, and a model keeps its modalities. With s the
stored value and v what the model sees:

    word ids                v = s
    counts                  v = s
    values in [0, 1]        v = s / full_scale for whole numbers, v = s for floats
    all other values        v = s, whatever the dtype

The meaning of a value therefore depends on the modality alone, and not on its dtype,
its container, or the rows beside it.

Values that were read as another modality of the same name says are converted
(:mod:`counterpoint.core.conversion`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from counterpoint.core.containers import Given, given, together

if TYPE_CHECKING:
    from counterpoint.core.modality import Modality

Array = np.ndarray

UNKNOWN_TOKENS = ("<unk>", "\ufffd")
"""What stands for a word, and for a sign, that a vocabulary lacks."""

SLACK = 1e-4
"""How far a float may lie outside [0, 1], for rounding."""

_ENTRIES = (
    4_000_000  # entries looked at together while checking, which bounds the memory of the check
)


# --- arrays ---------------------------------------------------------------------------------------------------------------------
def as_rows(
    x: Mapping[str, Any], masks: Mapping[str, Any], modalities: Mapping[str, Modality]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Values (N, *shape) by modality from whatever holds them
    (:mod:`counterpoint.core.containers`), and which rows are there, (N,) bool.

    Rows of tables go together by the names in their index, and columns into the order
    of the modality's features; images whose channels come last are turned; booleans
    become whole numbers.

    >>> from counterpoint import Modality
    >>> as_rows({"x": [[1.0], [2.0]]}, {}, {"x": Modality("x", (1,))})[1]
    {'x': array([ True,  True])}

    Raises:
        ValueError: another shape, a table that lacks features, rows that do not go
            together, or masks other than True and False.
        TypeError: what holds no numbers.
    """
    found = {name: _by_name(modalities[name], given(name, values)) for name, values in x.items()}
    told = {f"present/{name}": _mask(name, mask) for name, mask in masks.items()}
    side_by_side, _ = together(found | told)
    lengths = {name: len(side_by_side[name].values) for name in x}
    rows = next(iter(lengths.values()))
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"modalities have different numbers of rows: {lengths}; mark missing rows in 'present' instead of leaving them out"
        )
    arrays = {}
    present = {}
    for name in x:
        one = side_by_side[name]
        arrays[name] = laid_out(modalities[name], _numbers(modalities[name], one.values))
        told_there = side_by_side.get(f"present/{name}")
        there = (
            True
            if told_there is None
            else as_mask(name, told_there.values, rows) & ~told_there.absent
        )
        present[name] = ~one.absent & there
    return arrays, present


def _numbers(modality: Modality, values: Array) -> Array:
    """Values of a dtype that torch computes with.

    Raises:
        TypeError: text, or floats for word ids.
    """
    if values.dtype.kind == "U":
        raise TypeError(f"modality {modality.name!r}: text is no numbers; encode it first")
    if modality.likelihood == "categorical" and values.dtype.kind == "f":
        raise TypeError(
            f"modality {modality.name!r}: word ids must be integers, got {values.dtype}"
        )
    if values.dtype.kind == "b":
        return whole_numbers(modality, values)
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:
        return values.astype(np.int64)
    return (
        values.astype(np.float64)
        if values.dtype.kind == "f" and values.dtype.itemsize > 8
        else values
    )


def whole_numbers(modality: Modality, flags: Array) -> Array:
    """Booleans as the whole numbers, uint8, that the modality reads as 0 and 1.

    >>> from counterpoint import Modality
    >>> whole_numbers(Modality("x", (2,)), np.array([[True, False]]))
    array([[1, 0]], dtype=uint8)
    """
    return np.where(flags, np.uint8(modality.full_scale if modality.unit else 1), np.uint8(0))


def turned(modality: Modality, values: Array) -> Array:
    """Values with the axes of the modality where they have them in another way:
    channels last, or no axis for one channel or one feature. Others stay as they are.

    >>> from counterpoint import Modality
    >>> turned(Modality("image", (3, 8, 8)), np.zeros((5, 8, 8, 3))).shape
    (5, 3, 8, 8)
    """
    shape = modality.shape
    own = values.shape[1:]
    if own != shape and len(shape) == 3 and own == (*shape[1:], shape[0]):
        return values.transpose(0, 3, 1, 2)
    return values[:, None] if own != shape and (1, *own) == shape else values


def laid_out(modality: Modality, values: Array) -> Array:
    """Values with the axes of the modality.

    >>> from counterpoint import Modality
    >>> laid_out(Modality("image", (1, 8, 8)), np.zeros((5, 8, 8))).shape
    (5, 1, 8, 8)

    Raises:
        ValueError: another shape.
    """
    shape = modality.shape
    found = turned(modality, values)
    if found.shape[1:] == shape:
        return found
    if values.shape == shape:
        raise ValueError(
            f"modality {modality.name!r}: got one example of shape {shape}; give rows of such, (1, {', '.join(map(str, shape))})"
        )
    raise ValueError(
        f"modality {modality.name!r}: rows have shape {values.shape[1:]}, expected {shape}"
    )


def _by_name(modality: Modality, one: Given) -> Given:
    """A table of measured values in the order of the modality's features and in its
    units; where entries may be missing, with NaN for features that it lacks. What has
    no names is taken as models take it."""
    if not (one.columns and modality.features):
        return one
    place = {name: i for i, name in enumerate(one.columns)}
    values = _gathered(one.values, places_of(modality, modality.features, place, modality.gaps))
    if modality.units and values.dtype.kind in "iuf":
        mean, std = np.array(modality.units).T
        values = (values - mean) / std
    return replace(one, values=values, columns=modality.features)


def places_of(
    modality: Modality, wanted: Sequence[str], place: Mapping[str, int], gaps: bool
) -> Array:
    """Where each wanted feature stands, −1 where it is missing and may be.

    >>> from counterpoint import Modality
    >>> places_of(Modality("x", (2,)), ["a", "b"], {"b": 0, "a": 3}, gaps=False)
    array([3, 0])

    Raises:
        ValueError: features that are missing and may not be.
    """
    found = np.array([place.get(name, -1) for name in wanted])
    lacking = np.flatnonzero(found < 0)
    if len(lacking) == len(found) or (len(lacking) and not gaps):
        more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise ValueError(
            f"modality {modality.name!r}: feature {wanted[lacking[0]]!r} is missing{more}; the model was made with {len(wanted)} features"
            " by name: give all of them, or train with entries that may be missing (nan='missing')"
        )
    return found


def _gathered(values: Array, places: Array) -> Array:
    """Columns of values (N, d) by their numbers; NaN where a number is negative."""
    if (places >= 0).all():
        return values[:, places]
    kept = values[:, places.clip(0)].astype(np.float32)
    kept[:, places < 0] = np.nan
    return kept


def as_mask(name: str, told: Any, rows: int) -> Array:
    """Which rows of a modality are there, (rows,) bool.

    >>> as_mask("x", [1, 0], 2)
    array([ True, False])

    Raises:
        ValueError: another shape, rows of which nothing is said, or numbers other than
            0 and 1. TypeError: text.
    """
    values = _mask(name, told).values
    if values.shape != (rows,):
        raise ValueError(f"'present' of {name!r} has shape {values.shape}, expected ({rows},)")
    return values


def _mask(name: str, told: Any) -> Given:
    """The same with the names of its rows, of any shape."""
    one = given(f"present/{name}", told)
    start = f"'present' of {name!r}"
    remedy = "give True or False, or 1 or 0, for each row"
    if one.values.dtype.kind == "U":
        raise TypeError(f"{start} holds text ({str(one.values.ravel()[0])!r}); {remedy}")
    if one.absent.any():
        raise ValueError(f"{start} holds nothing in row {int(one.absent.argmax())}; {remedy}")
    if (wrong := one.values[(one.values != 0) & (one.values != 1)]).size:
        raise ValueError(f"{start} holds {wrong[0]:g}; {remedy}")
    return replace(one, values=one.values.astype(bool))


# --- values ---------------------------------------------------------------------------------------------------------------------
def kind(modality: Modality) -> str:
    """What the values of a modality are, in words.

    >>> from counterpoint import Modality
    >>> kind(Modality("image", (3, 8, 8)))
    'values in [0, 1]'
    """
    if modality.likelihood == "categorical":
        return "word ids"
    return "counts" if modality.counts else "values in [0, 1]" if modality.unit else "real values"


def wrong_row(modality: Modality, values: Array, present: Array) -> tuple[int, str] | None:
    """The first row that is there and holds what its modality can't be, and what that
    is; None where all is well.

    >>> from counterpoint import Modality
    >>> values = np.array([[1.0], [np.nan]])
    >>> wrong_row(Modality("x", (1,)), values, np.array([True, True]))[0]
    1

    Args:
        values: (N, *shape).
        present: (N,) bool.
    """
    step = max(1, _ENTRIES // math.prod(modality.shape))
    for start in range(0, len(values), step):
        if wrong := _wrong_in(
            modality, values[start : start + step], present[start : start + step]
        ):
            return start + wrong[0], wrong[1]
    return None


def _wrong_in(modality: Modality, block: Array, here: Array) -> tuple[int, str] | None:
    """The same of a block that fits in memory: faults in the order in which they are
    told."""
    whole = block.dtype.kind != "f"
    if modality.likelihood == "categorical":
        bad = (block < 0) | (block >= (modality.classes or 0))
        if not (rows := here & bad.any(1)).any():
            return None
        row = int(rows.argmax())
        return (
            row,
            f"holds {block[row][bad[row]][0]}, an id outside [0, {(modality.classes or 0) - 1}]; {ABSENT}",
        )
    if whole and block.dtype == np.uint8 and modality.full_scale == 255 and modality.unit:
        return None
    if not whole:
        missing = np.isnan(block) if modality.gaps else None
        if missing is not None and (
            wrong := _first(
                missing.reshape(len(block), -1).all(1),
                here,
                "holds nothing but NaN; mark it absent in 'present'",
            )
        ):
            return wrong
        with np.errstate(over="ignore"):
            seen = block.astype(np.float32, copy=False)
        bad = ~np.isfinite(seen) if missing is None else np.isinf(seen)
        mend = (
            ABSENT
            if modality.gaps or modality.counts
            else f"{ABSENT}, or let it have gaps (nan='missing')"
        )
        if wrong := _first(bad, here, f"holds NaN or infinity; {mend}"):
            return wrong
    if modality.counts:
        bad = block < 0 if whole else (block < 0) | (block != np.rint(block))
        return _entry(modality, block, here, bad, "counts are whole numbers of 0 or more")
    if modality.likelihood == "beta" and not whole:
        return _entry(modality, block, here, (block < 0) | (block > 1), "proportions lie in [0, 1]")
    if modality.unit:
        return _outside(modality, block, here, whole)
    return None


ABSENT = "mark it absent in 'present' or clean it"


def _outside(modality: Modality, block: Array, here: Array, whole: bool) -> tuple[int, str] | None:
    """The first row that leaves [0, 1], or of whole numbers [0, full_scale]."""
    top, slack = (
        (modality.full_scale, 0.0)
        if whole
        else (1, 0.0 if modality.likelihood == "bernoulli" else SLACK)
    )
    outside = (block < -slack) | (block > top + slack)
    bad = here & outside.reshape(len(block), -1).any(1)
    if not bad.any():
        return None
    row = int(bad.argmax())
    low = float(np.nanmin(block[row]))
    high = float(np.nanmax(block[row]))
    span = f"[{low:g}, {high:g}]"
    if whole:
        return (
            row,
            f"spans {span}, and its whole numbers are read as [0, {top}]; rescale them, or give floats in [0, 1]",
        )
    reads = "a Bernoulli likelihood" if modality.likelihood == "bernoulli" else "an image"
    pixels = float(block[row].max()) > 1 and modality.full_scale == 255
    remedy = "divide them by 255 or give them as uint8" if pixels else "rescale them"
    other = "" if modality.likelihood == "bernoulli" else ", or give a Modality with unbounded=True"
    return row, f"spans {span}, but {reads} reads floats in [0, 1]; {remedy}{other}"


def _first(bad: Array, here: Array, what: str) -> tuple[int, str] | None:
    rows = here & bad.reshape(len(here), -1).any(1)
    return (int(rows.argmax()), what) if rows.any() else None


def _entry(
    modality: Modality, block: Array, here: Array, bad: Array, expected: str
) -> tuple[int, str] | None:
    """The first entry that is wrong, by row and feature."""
    bad = bad & here.reshape(-1, *[1] * len(modality.shape))
    if not bad.any():
        return None
    row, *place = np.argwhere(bad)[0].tolist()
    name = (
        repr(modality.features[place[0]])
        if modality.features
        else str(place[0] if len(place) == 1 else tuple(place))
    )
    return (
        row,
        f"holds {float(block[(row, *place)]):g} at feature {name}, and {expected}; correct it, or give another likelihood",
    )


def to_tensors(
    modality: Modality, values: Array, present: Array, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What a model sees of checked values: values (N, *shape) with zeros where nothing
    is, presence (N,), and which entries are there, (N, *shape), of modalities with
    gaps. Values travel as they are stored and are converted on the device.

    >>> from counterpoint import Modality
    >>> to_tensors(Modality("x", (1,)), np.ones((2, 1)), np.array([True, False]))[1]
    tensor([ True, False])
    """
    stored = torch.from_numpy(np.ascontiguousarray(values)).to(device)
    here = torch.from_numpy(present).to(device)
    entries = ~stored.isnan() if modality.gaps else None
    seen = modality.read(stored)
    if not present.all():
        seen = seen.masked_fill(~here.view(-1, *[1] * len(modality.shape)), 0)
    return seen, here, entries


def to_unit(values: Tensor) -> Tensor:
    """The pixels of 8-bit images, uint8 in [0, 255], as float32 in [0, 1]; other
    numbers pass as float32.

    >>> to_unit(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([0., 1.])
    """
    return values.float().div_(255) if values.dtype == torch.uint8 else values.float()
