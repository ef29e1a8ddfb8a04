"""Photos and drawings from files: decoding, cropping, shrinking; now, or when they are
asked for. Arrays are uint8 and channels come first.

Every image is opened by :func:`decode`, which knows six formats and no other. Whatever
it stores becomes 8 bits a channel: whole numbers of 16 bits are divided by 257, so that
their largest is 255; floats must lie in [0, 1]; what is transparent lies on white.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
"""Formats that are opened. Pillow knows others that hand a file to other programs, as
EPS does, whatever the file is called."""

Box = tuple[float, float, float, float]
Source = TypeVar("Source")


def decode(content: Path | bytes, name: str, mode: Literal["RGB", "L"] | None = None) -> Image:
    """Decode the image of a file, or of its bytes, turned as the camera was held.

    Args:
        name: what an error calls it.
        mode: in colour or grey; None for that which it is stored in.

    Raises:
        ValueError: it cannot be read, is of another format than :data:`FORMATS`, or
            holds numbers that are no brightness.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(
            BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS
        ) as image:
            ImageOps.exif_transpose(image, in_place=True)
            plain = _eight_bits(image)
            return plain.convert(mode or ("L" if plain.mode in ("1", "L") else "RGB"))
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        Image.DecompressionBombError,
        *_CORRUPT,
    ) as error:
        known = f"it is no image of a format that is read ({', '.join(FORMATS)})"
        why = known if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise ValueError(f"cannot read photo {name}: {why}; remove or replace it") from error


_CORRUPT = (
    struct.error,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ZeroDivisionError,
    OverflowError,
    MemoryError,
)
"""What Pillow raises on corrupt files, beside errors that say so."""


def _eight_bits(image: Image) -> Image:
    """The image in modes of 8 bits, nothing of it transparent.

    Raises:
        ValueError: whole numbers of more than 16 bits, or floats outside [0, 1].
    """
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if image.mode == "F":
            if not ((values >= 0) & (values <= 1)).all():
                raise ValueError(
                    f"its floats span [{values.min():g}, {values.max():g}], expected [0, 1]"
                )
            return Image.fromarray(np.rint(values * 255).astype(np.uint8))
        if image.mode == "I" and image.format != "PNG":
            raise ValueError("it holds whole numbers of 32 bits, expected 8 or 16")
        return Image.fromarray(np.rint(values.astype(np.uint16) / 257).astype(np.uint8))
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        on_white = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
        return on_white.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
    return image


def shrink(image: Image, size: int, box: Box | None = None) -> np.ndarray:
    """Shrink an image, or a box (left, top, right, bottom) of it, to (C, size, size):
    bilinear and smoothed."""
    from PIL.Image import Resampling

    return channels_first(image.resize((size, size), Resampling.BILINEAR, box=box))


def channels_first(image: Image) -> np.ndarray:
    """Return the pixels of an image, (C, H, W). C is 1 where it is grey."""
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def middle(image: Image, size: int) -> np.ndarray:
    """Shrink the largest square in the middle of an image to (C, size, size)."""
    side = min(image.size)
    left = (image.width - side) / 2
    top = (image.height - side) / 2
    return shrink(image, size, (left, top, left + side, top + side))


def square(bounds: Box, extent: tuple[int, int]) -> Box:
    """Return the square about bounds (x, y, width, height), clipped to the image:
    (left, top, right, bottom). Its side is the longer of the two."""
    x, y, width, height = bounds
    half = max(width, height) / 2
    left = x + width / 2 - half
    top = y + height / 2 - half
    right = x + width / 2 + half
    bottom = y + height / 2 + half
    return (
        max(left, 0.0),
        max(top, 0.0),
        min(right, float(extent[0])),
        min(bottom, float(extent[1])),
    )


class Pictures(Generic[Source]):
    """Decode images when they are asked for. The object is used like an array uint8 (N,
    *shape), as a memory map is.

    A slice of it is of the kind again, and decodes nothing; an index array decodes its
    rows.

    Args:
        read: makes the pixels of a source.
        sources: of each image; None where there is none, and zeros stand for it.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        read: Callable[[Source], np.ndarray],
        sources: Sequence[Source | None],
        shape: tuple[int, ...],
    ) -> None:
        self.read = read
        self.sources = sources
        self.shape = (len(sources), *shape)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, rows: slice | np.ndarray) -> Pictures[Source] | np.ndarray:
        if isinstance(rows, slice):
            return Pictures(self.read, self.sources[rows], self.shape[1:])
        return np.asarray(
            Pictures(
                self.read, [self.sources[i] for i in np.arange(len(self))[rows]], self.shape[1:]
            )
        )

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> np.ndarray:
        return stack(self.read, self.sources, self.shape[1:])[0].astype(
            dtype or self.dtype, copy=False
        )


def stack(
    read: Callable[[Source], np.ndarray], sources: Sequence[Source | None], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Read each source, (N, *shape), and return which sources there are, (N,). Rows of
    None are zeros.

    Threads read side by side, since decoding does not hold the interpreter.
    """
    values = np.zeros((len(sources), *shape), np.uint8)
    present = np.array([source is not None for source in sources], bool)
    with ThreadPoolExecutor() as pool:
        for row, pixels in zip(
            np.flatnonzero(present),
            pool.map(read, [s for s in sources if s is not None]),
            strict=True,
        ):
            values[row] = pixels
    return values, present
