"""Columns of shards: what kind each is of, and its cells as arrays.

A value says what it is: bytes are an image, or an array where they begin as ``.npy``
files do; text is text; a whole number is a label; any other number, and a list of
numbers, is an array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from counterpoint.core.containers import given
from counterpoint.core.modality import Modality
from counterpoint.core.reading import whole_numbers
from counterpoint.data.images import channels_first, decode, middle
from counterpoint.data.sources.files import read_npy
from counterpoint.data.sources.inference import as_values
from counterpoint.data.split import Array
from counterpoint.data.streams.shard import Broken
from counterpoint.data.text import Vocabulary, words_of

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["image", "text", "array", "label"]
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

_NPY = b"\x93NUMPY"
_TOGETHER = 16  # images that a thread decodes before it asks for more


class BadCell(ValueError):
    """A value that cannot be used.

    Attributes:
        index: of the value among those that are there.
    """

    def __init__(self, index: int, why: str) -> None:
        self.index = index
        super().__init__(why)


@dataclass(frozen=True)
class Column:
    """How the cells of one column become values.

    Attributes:
        name: of the column, and of the modality or label that it is.
        kind: what it holds.
        dtype: of its values in memory.
        resize: images are cut to the square in their middle, and shrunk or enlarged;
            otherwise they must have one size.
        strict: a word outside the vocabulary is bad; otherwise it is unknown.
    """

    name: str
    kind: Kind
    dtype: str
    resize: bool = False
    strict: bool = False


def kind_of(value: Any) -> Kind:
    """Return what kind a value is.

    Raises:
        BadCell: nothing that can be read.
    """
    if isinstance(value, bytes | memoryview):
        return "array" if bytes(value[:6]) == _NPY else "image"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | np.integer | np.bool_):
        return "label"
    if isinstance(value, float | np.floating | list) or (
        isinstance(value, np.ndarray) and value.ndim
    ):
        return "array"
    raise BadCell(
        0, value.why if isinstance(value, Broken) else f"a {type(value).__name__} is not read"
    )


def images(
    cells: Sequence[Any] | Array, shape: tuple[int, ...], resize: bool, map: Map = map
) -> Array:
    """Decode images to uint8 (N, C, H, W), grey or in colour by C. If they may be
    resized, the square in the middle of each is taken.

    Raises:
        BadCell: one that cannot be read, or has another size and may not be resized.
    """
    values = np.empty((len(cells), *shape), np.uint8)
    channels, height, width = shape

    def read(index: int) -> None:
        image = as_image(index, cells[index], channels)
        if resize:
            values[index] = middle(image, height)
        elif image.size == (width, height):
            values[index] = channels_first(image)
        else:
            raise BadCell(
                index,
                f"an image of {image.height}×{image.width}, expected {height}×{width}; give size to make them alike",
            )

    def read_some(start: int) -> None:
        for index in range(start, min(start + _TOGETHER, len(cells))):
            read(index)

    for _ in map(read_some, range(0, len(cells), _TOGETHER)):
        pass
    return values


def as_image(index: int, cell: Any, channels: int | None = None) -> Image:
    """Decode an image of its bytes, grey (1 channel) or in colour; as it is stored
    where neither is said.

    Raises:
        BadCell: it cannot be read.
    """
    if not isinstance(cell, bytes | memoryview):
        raise _unlike(index, cell, "an image")
    try:
        return decode(
            bytes(cell),
            f"of {len(cell)} bytes",
            None if channels is None else "L" if channels == 1 else "RGB",
        )
    except ValueError as error:
        raise BadCell(index, str(error)) from None


def image_shape(cell: Any, size: int | None) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of what an image becomes.

    Raises:
        BadCell: it cannot be read.
    """
    image = as_image(0, cell)
    return (1 if image.mode == "L" else 3, size or image.height, size or image.width)


def ids(cells: Sequence[Any] | Array, vocabulary: Vocabulary, length: int, strict: bool) -> Array:
    """Encode texts as word ids (N, length).

    Args:
        strict: a word outside the vocabulary is bad.

    Raises:
        BadCell: what is no text, or a text without a word, or with one outside a strict
            vocabulary.
    """
    for index, cell in enumerate(cells):
        if not isinstance(cell, str):
            raise _unlike(index, cell, "text")
        if not words_of(cell):
            raise BadCell(
                index, f"text {cell!r} holds no word; null, or no member, says that there is none"
            )
        if strict and vocabulary.unknown(cell):
            raise BadCell(
                index,
                f"{vocabulary.unknown(cell)[0]!r} in {cell!r} is none of the {len(vocabulary)} tokens of the vocabulary",
            )
    return vocabulary.encode([*cells], length)


def arrays(
    name: str,
    cells: Sequence[Any] | Array,
    modality: Modality | None = None,
    dtype: str | None = None,
) -> Array:
    """Return numbers (N, ...), channels of images first.

    Args:
        modality: what they must look like, and ``dtype`` what they are stored as; where
            None, as the first.

    Raises:
        BadCell: a value of another shape or kind, or one that is no numbers.
    """
    dense = cells if isinstance(cells, np.ndarray) else _npy(cells)
    pieces = (
        [_array(index, cell) for index, cell in enumerate(cells)]
        if dense is None
        else [dense[:1]]
        if len(dense)
        else []
    )
    for index, value in enumerate(pieces):
        if value.dtype.kind not in "biuf":
            raise BadCell(index, f"values of {value.dtype}, expected numbers")
    shaped = [as_values(name, given(name, value).values, modality) for value in pieces]
    for index, value in enumerate(shaped):
        expected = shaped[0].shape[1:] if modality is None else modality.shape
        if value.shape[1:] != expected:
            raise BadCell(
                index, f"values have shape {pieces[index].shape[1:]}, expected {expected}"
            )
        if (
            dtype is not None
            and value.dtype.kind != "b"
            and not np.can_cast(value.dtype, dtype, "same_kind")
        ):
            raise BadCell(index, f"values of {value.dtype}, expected {dtype}")
    if not shaped:
        return np.zeros((0, *(() if modality is None else modality.shape)), dtype or np.float32)
    values = (
        np.concatenate(shaped)
        if dense is None
        else as_values(name, given(name, dense).values, modality)
    )
    return (
        whole_numbers(modality, values)
        if modality is not None and values.dtype.kind == "b"
        else values
    )


def labels(cells: Sequence[Any] | Array) -> Array:
    """Return whole numbers (N,) int64.

    Raises:
        BadCell: another value.
    """
    for index, cell in (
        enumerate(cells)
        if not isinstance(cells, np.ndarray) or cells.dtype.kind not in "ib"
        else ()
    ):
        if not isinstance(cell, int | np.integer):
            raise _unlike(index, cell, "a whole number")
        if not -(2**63) <= int(cell) < 2**63:
            raise BadCell(index, f"the label {cell} takes more than 64 bits; number classes anew")
    return np.asarray(cells, np.int64)


def _npy(cells: Sequence[Any]) -> Array | None:
    """Contents of ``.npy`` files as one array (N, ...), where all have the header of
    the first; None where they have not."""
    try:
        if len({*map(len, cells)}) != 1:
            return None
        joined = np.frombuffer(b"".join(cells), np.uint8).reshape(len(cells), -1)
    except TypeError:  # what is not bytes has no length, or does not join
        return None
    one = _load(0, cells[0])
    begins = joined.shape[1] - one.nbytes
    if (
        not one.nbytes
        or (joined[:, :begins] != joined[0, :begins]).any()
        or not one.flags.c_contiguous
    ):
        return None
    return joined[:, begins:].view(one.dtype).reshape(len(cells), *one.shape)


def _array(index: int, cell: Any) -> Array:
    """One value as an array (1, ...)."""
    if isinstance(cell, bytes | memoryview):
        value = _load(index, cell)
    elif isinstance(cell, Broken | str | bool):
        raise _unlike(index, cell, "numbers")
    else:
        try:
            value = np.asarray(cell)
        except ValueError:
            raise BadCell(
                index, "lists of different lengths, expected an array of numbers"
            ) from None
    return value[None]


def _load(index: int, content: Any) -> Array:
    try:
        return read_npy(BytesIO(content), len(content))
    except (ValueError, EOFError, OSError) as error:
        if "object" in str(error).lower() or "pickle" in str(error).lower():
            raise BadCell(
                index,
                "an array of Python objects, which are never unpickled; save it with a numeric dtype",
            ) from None
        raise BadCell(index, f"no whole .npy file ({' '.join(str(error).split())})") from None


def _unlike(index: int, cell: Any, expected: str) -> BadCell:
    if isinstance(cell, Broken):
        return BadCell(index, cell.why)
    return BadCell(
        index,
        f"{'bytes' if isinstance(cell, bytes | memoryview) else repr(cell)[:40]}, expected {expected}",
    )


def row_bytes(columns: Iterable[Column], modalities: Iterable[Modality]) -> int:
    """Return the bytes that a row takes in memory."""
    shapes = {m.name: m.shape for m in modalities}
    total = 0
    for column in columns:
        total += np.dtype(column.dtype).itemsize * math.prod(shapes.get(column.name, ()))
    return total
