"""Pictures of what a method reconstructs, translates, recombines and samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from counterpoint.core.modality import Modality
from counterpoint.report.figures.rows import batch_of, chosen_modality, complete_rows
from counterpoint.report.figures.tiling import Tile, mosaic, shown, span_of, tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from counterpoint.data import Split
    from counterpoint.methods import Method


def reconstructions(method: Method, split: Split, n: int = 10, seed: int = 0) -> Figure:
    """Draw for every modality a row of data, and below it its reconstruction."""
    batch = batch_of(method, split, complete_rows(split, n, _first(split.shared_labels), seed))
    output = method.reconstruct(batch, generator=torch.Generator().manual_seed(seed))
    cells: list[Sequence[Tile | None]] = []
    for m in method.modalities:
        span = _span(batch.x[m.name], m)
        cells.append(tiles(batch.x[m.name], m, span))
        cells.append(tiles(output[m.name], m, span))
    return mosaic(cells, rows=[m.name for m in method.modalities], block=(2, 1))


def translations(
    method: Method, split: Split, n: int = 4, seed: int = 0, prior: str = "auto"
) -> Figure:
    """Draw a matrix of blocks: a row gives one modality, a column decodes one.

    The first column shows the given values. The same ``n`` examples fill every block.
    On the diagonal a modality is decoded from itself. Elsewhere the private latent of
    the target comes from the prior.
    """
    side = max(1, math.isqrt(n))
    batch = batch_of(
        method, split, complete_rows(split, side * side, _first(split.shared_labels), seed)
    )
    side = math.isqrt(len(batch))
    names = [m.name for m in method.modalities]
    known = {m.name: m for m in method.modalities}
    spans = {name: _span(batch.x[name], m) for name, m in known.items()}
    generator = torch.Generator().manual_seed(seed)
    cells: list[list[Tile | None]] = []
    for source in names:
        output = method.translate(
            batch.only([source]), to=names, n=1, prior=prior, generator=generator
        )
        blocks = [tiles(batch.x[source], known[source], spans[source])]
        blocks += [tiles(output[target][0], known[target], spans[target]) for target in names]
        cells += [
            [tile for block in blocks for tile in block[r * side : (r + 1) * side]]
            for r in range(side)
        ]
    return mosaic(
        cells,
        rows=names,
        columns=["given", *(f"→ {name}" for name in names)],
        block=(side, side),
        inches=0.42,
    )


def recombinations(
    method: Method, split: Split, modality: str | None = None, n: int = 7, seed: int = 0
) -> Figure:
    """Draw recombinations: z of the example at the left, w of the example above.

    Raises:
        ValueError: the method has no private latents, or no modality of that name.
    """
    m = chosen_modality(method, modality)
    if m.name not in method.model.private_dims:
        raise ValueError(
            f"method {method.name!r} has no private latent for {m.name!r}, so there is nothing to "
            "recombine"
        )
    own = {k: v[m.name] for k, v in split.private_labels.items() if m.name in v}
    private = _first(own)
    rows = complete_rows(split, n, _first(split.shared_labels), seed)
    columns = complete_rows(split, n, private, seed + 1)
    shared_batch = batch_of(method, split, rows)
    private_batch = batch_of(method, split, columns)
    pairs = (
        batch_of(method, split, which)
        for which in (np.repeat(rows, len(columns)), np.tile(columns, len(rows)))
    )
    output = method.recombine(*pairs, generator=torch.Generator().manual_seed(seed))
    span = _span(shared_batch.x[m.name], m)
    made = tiles(output[m.name], m, span)
    cells: list[list[Tile | None]] = [[None, *tiles(private_batch.x[m.name], m, span)]]
    for i, source in enumerate(tiles(shared_batch.x[m.name], m, span)):
        first = i * len(columns)
        cells.append([source, *made[first : first + len(columns)]])
    return mosaic(cells, lead=True, inches=0.56)


def samples(method: Method, n: int = 10, prior: str = "auto", seed: int = 0) -> Figure:
    """Draw unconditional samples: a row is a modality, a column one draw of z.

    Each modality has a w of its own.
    """
    output = method.sample(n, prior=prior, generator=torch.Generator().manual_seed(seed))
    return mosaic(
        [tiles(output[m.name], m) for m in method.modalities],
        rows=[m.name for m in method.modalities],
    )


def sheet(
    values: Mapping[str, Tensor], modalities: Sequence[Modality], columns: int = 16
) -> Figure:
    """Draw values of several modalities, ``(N, *shape)`` each, a block per modality.

    Lines are wrapped to ``columns`` tiles.
    """
    chosen = [m for m in modalities if m.name in values]
    cells: list[list[Tile | None]] = []
    for m in chosen:
        row: list[Tile | None] = [*tiles(values[m.name], m)]
        width = min(columns, len(row))
        row += [None] * (-len(row) % width)
        cells += [row[i : i + width] for i in range(0, len(row), width)]
    return mosaic(cells, rows=[m.name for m in chosen], block=(len(cells) // len(chosen), 1))


def _first(labels: Mapping[str, Any]) -> np.ndarray | None:
    return next((np.asarray(v) for v in labels.values()), None)


def _span(values: Tensor, modality: Modality) -> tuple[float, float] | None:
    """The common scale of observed and generated bar codes and unbounded images."""
    picture = len(modality.shape) == 3 and modality.unit
    return (
        None
        if modality.likelihood == "categorical" or picture
        else span_of(shown(values, modality))
    )
