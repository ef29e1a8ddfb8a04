"""Mosaics of tiles.

An image is its own tile. A vector becomes a bar code, with one stripe per feature or
run of neighbouring features, and counts as networks read them. Word ids become text.
Unbounded images are scaled between their darkest and lightest values.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from counterpoint.core.modality import Modality
from counterpoint.figures.style import GRADIENT, INK
from counterpoint.nn.modules import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Tile = np.ndarray | str
"""What fills one cell of a mosaic: ``(H, W, 3)`` uint8, or text."""


def tiles(
    values: Tensor | np.ndarray,
    modality: Modality,
    span: tuple[float, float] | None = None,
) -> list[Tile]:
    """Turn a stack of values into tiles.

    Args:
        values: ``(N, *shape)``; images in [0, 1] or unbounded; ids, or probabilities
            ``(N, L, V)`` of a categorical modality.
        modality: what the values are.
        span: the values drawn darkest and lightest in a bar code or an unbounded image;
            those of ``values`` by default.
    """
    array = shown(values, modality)
    if modality.likelihood == "categorical":
        ids = array.argmax(-1) if array.ndim > 1 + len(modality.shape) else array
        return [modality.text(row) for row in ids]
    image = len(modality.shape) == 3
    if image and modality.unit:
        return [_picture(pixels) for pixels in array]
    low, high = span_of(array) if span is None else span
    if image:
        return [_picture(pixels) for pixels in (array - low) / (high - low)]
    return [_barcode(row.ravel(), low, high) for row in array]


def shown(values: Tensor | np.ndarray, modality: Modality) -> np.ndarray:
    """The values that are drawn: counts as networks read them, others unchanged."""
    tensor = values.detach() if isinstance(values, Tensor) else torch.tensor(np.asarray(values))
    array: np.ndarray = readable(modality, tensor.float()).cpu().numpy()
    return array


def span_of(values: Tensor | np.ndarray) -> tuple[float, float]:
    """The 2nd and 98th percentile of the values, kept apart where they are equal."""
    low, high = (float(v) for v in np.percentile(np.asarray(values, dtype=np.float64), (2, 98)))
    return low, max(high, low + 1e-6)


def _picture(image: np.ndarray) -> np.ndarray:
    """(C, H, W) in [0, 1] to (H, W, 3) uint8: one channel is grey, the first three of
    more are colours, two are averaged."""
    channels = (
        image[:3]
        if len(image) >= 3
        else np.broadcast_to(image.mean(0, keepdims=True), (3, *image.shape[1:]))
    )
    result: np.ndarray = (np.clip(channels, 0, 1).transpose(1, 2, 0) * 255).round().astype(np.uint8)
    return result


def _barcode(row: np.ndarray, low: float, high: float, size: int = 32) -> np.ndarray:
    """(d,) to (size, size', 3) uint8, size' at most 64: stripes in a colour map that is
    perceptually uniform."""
    from matplotlib import colormaps

    if len(row) > 2 * size:
        row = np.array([part.mean() for part in np.array_split(row, 2 * size)])
    elif len(row) < size:
        row = np.repeat(row, max(1, size // len(row)))
    shades = np.clip((row - low) / (high - low), 0, 1)
    stripes = colormaps[GRADIENT](shades, bytes=True)[:, :3]
    return np.broadcast_to(stripes, (size, *stripes.shape)).copy()


def _fitted(tile: np.ndarray, size: int) -> np.ndarray:
    """The tile enlarged by a whole factor and centred on a transparent square of
    ``size``: pixels stay square and sharp."""
    factor = max(1, size // max(tile.shape[:2]))
    pixels = tile.repeat(factor, 0).repeat(factor, 1)
    canvas = np.zeros((size, size, 4), np.uint8)
    top = (size - pixels.shape[0]) // 2
    left = (size - pixels.shape[1]) // 2
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = np.dstack(
        [pixels, np.full(pixels.shape[:2], 255, np.uint8)]
    )
    return canvas


def mosaic(
    cells: Sequence[Sequence[Tile | None]],
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    block: tuple[int, int] = (1, 1),
    inches: float = 0.5,
    lead: bool = False,
) -> Figure:
    """Tiles on a lattice, grouped in blocks.

    Args:
        cells: rows of tiles, all rows of one length; ``None`` leaves a cell empty.
        rows: a label for each block of rows.
        columns: a label for each block of columns.
        block: height and width of a block, in tiles; blocks stand further apart than
            tiles.
        inches: side of a tile.
        lead: set the first block of rows and of columns (what the rest is made from)
            apart by a wider gap.

    Raises:
        ValueError: no tile at all.
    """
    from matplotlib.figure import Figure

    if not cells or not cells[0]:
        raise ValueError("a mosaic needs at least one tile")
    size = _side(cells)
    tops = _offsets(len(cells), block[0], size, lead)
    lefts = _offsets(len(cells[0]), block[1], size, lead)
    height = tops[-1] + size
    width = lefts[-1] + size
    unit = inches / size
    margin_left = 0.085 * max((len(label) for label in rows), default=0) + (0.12 if rows else 0.02)
    margin_top = 0.28 if columns else 0.02
    figure = Figure(
        figsize=(margin_left + width * unit, margin_top + height * unit), facecolor="none"
    )
    full_width, full_height = figure.get_size_inches()
    axes = figure.add_axes(
        (margin_left / full_width, 0, width * unit / full_width, height * unit / full_height)
    )
    _lay(axes, cells, tops, lefts, size, inches)
    for i, label in enumerate(rows):
        first = tops[i * block[0]]
        last = tops[(i + 1) * block[0] - 1]
        middle = (first + last + size) / 2
        axes.text(-0.09 / unit, middle, label, ha="right", va="center", fontsize=8.5, color=INK)
    for j, label in enumerate(columns):
        first = lefts[j * block[1]]
        last = lefts[(j + 1) * block[1] - 1]
        middle = (first + last + size) / 2
        axes.text(middle, -0.09 / unit, label, ha="center", va="bottom", fontsize=8.5, color=INK)
    return figure


def strip(axes: Axes, row: Sequence[Tile], inches: float = 0.5) -> None:
    """Lay tiles side by side on axes."""
    size = _side([row])
    _lay(axes, [row], [0], _offsets(len(row), 1, size, False), size, inches)


def _side(cells: Sequence[Sequence[Tile | None]]) -> int:
    """The side of the largest tile, in pixels."""
    pictures = [cell for row in cells for cell in row if isinstance(cell, np.ndarray)]
    return max((side for cell in pictures for side in cell.shape[:2]), default=32)


def _lay(
    axes: Axes,
    cells: Sequence[Sequence[Tile | None]],
    tops: Sequence[int],
    lefts: Sequence[int],
    size: int,
    inches: float,
) -> None:
    """Draw tiles at their places on axes that are counted in pixels from the top."""
    height = tops[-1] + size
    width = lefts[-1] + size
    canvas = np.zeros((height, width, 4), np.uint8)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for top, row in zip(tops, cells, strict=True):
        for left, cell in zip(lefts, row, strict=True):
            if isinstance(cell, str):
                _write(axes, cell, left + size / 2, top + size / 2, inches)
            elif cell is not None:
                canvas[top : top + size, left : left + size] = _fitted(cell, size)
    axes.imshow(canvas, extent=(0, width, height, 0), interpolation="none", aspect="auto")


def _offsets(count: int, block: int, size: int, lead: bool) -> list[int]:
    gap = max(1, size // 16)
    wide = 4 * gap if block > 1 else gap
    return [
        i * (size + gap) + (i // block) * (wide - gap) + (4 * gap if lead and i >= block else 0)
        for i in range(count)
    ]


def _write(axes: Axes, text: str, x: float, y: float, inches: float) -> None:
    lines = wrap(text, 12)
    if len(lines) > 5:
        lines = [*lines[:4], "…"]
    content = "\n".join(lines)
    axes.text(
        x,
        y,
        content,
        ha="center",
        va="center",
        fontsize=9 * inches,
        color=INK,
        family="monospace",
        linespacing=1.15,
        parse_math=False,
    )
