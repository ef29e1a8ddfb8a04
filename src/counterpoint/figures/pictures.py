"""Pictures of what a method reconstructs, translates, recombines and samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.figures.rows import chosen_modality, complete_batch
from counterpoint.figures.tiling import Tile, mosaic, shown, span_of, tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from counterpoint.data import Split
    from counterpoint.figures.drawable import Drawable


def reconstructions(
    method: Drawable,
    rows: Split | Batch,
    n: int = 10,
    seed: int = 0,
) -> Figure:
    """Draw for every modality a row of data, and below it its reconstruction."""
    batch = complete_batch(method, rows, n, seed=seed)
    output = method.reconstruct(batch, generator=torch.Generator().manual_seed(seed))
    cells: list[Sequence[Tile | None]] = []
    for m in method.modalities:
        span = _span(batch.x[m.name], m)
        cells.append(tiles(batch.x[m.name], m, span))
        cells.append(tiles(output[m.name], m, span))
    return mosaic(cells, rows=[m.name for m in method.modalities], block=(2, 1))


def translations(
    method: Drawable,
    rows: Split | Batch,
    given: str | None = None,
    n: int = 6,
    seed: int = 0,
    prior: str = "auto",
) -> Figure:
    """Draw what one modality tells of the others, beside the truth.

    A row is an example: the given modality, then for every other its value and its
    translation. The private latent of the target comes from the prior.

    Raises:
        ValueError: a method of one modality, or no modality of that name.
    """
    source = chosen_modality(method, given)
    targets = [m for m in method.modalities if m.name != source.name]
    if not targets:
        raise ValueError(f"{source.name!r} is the only modality, so there is nothing to translate")
    batch = complete_batch(method, rows, n, seed=seed)
    output = method.translate(
        batch.only([source.name]),
        to=[m.name for m in targets],
        prior=prior,
        generator=torch.Generator().manual_seed(seed),
    )
    columns = [tiles(batch.x[source.name], source)]
    for m in targets:
        span = _span(batch.x[m.name], m)
        columns += [tiles(batch.x[m.name], m, span), tiles(output[m.name][0], m, span)]
    heads = [source.name, *(head for m in targets for head in (m.name, f"→ {m.name}"))]
    return mosaic([*zip(*columns, strict=True)], columns=heads, inches=0.7)


def cross_generation(
    method: Drawable,
    rows: Split | Batch,
    n: int = 4,
    seed: int = 0,
    prior: str = "auto",
) -> Figure:
    """Draw a matrix of blocks: a row gives one modality, a column decodes one.

    The first column shows the given values. The same ``n`` examples fill every block.
    On the diagonal a modality is decoded from itself. Elsewhere the private latent of
    the target comes from the prior.
    """
    side = max(1, math.isqrt(n))
    batch = complete_batch(method, rows, side * side, seed=seed)
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
    method: Drawable,
    rows: Split | Batch,
    modality: str | None = None,
    n: int = 7,
    seed: int = 0,
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
    shared = complete_batch(method, rows, n, seed=seed)
    private = complete_batch(method, rows, n, private_of=m.name, seed=seed + 1)
    output = method.recombine(
        shared[torch.arange(len(shared)).repeat_interleave(len(private))],
        private[torch.arange(len(private)).repeat(len(shared))],
        generator=torch.Generator().manual_seed(seed),
    )
    span = _span(shared.x[m.name], m)
    made = tiles(output[m.name], m, span)
    cells: list[list[Tile | None]] = [[None, *tiles(private.x[m.name], m, span)]]
    for i, source in enumerate(tiles(shared.x[m.name], m, span)):
        first = i * len(private)
        cells.append([source, *made[first : first + len(private)]])
    return mosaic(cells, lead=True, inches=0.56)


def samples(
    method: Drawable,
    n: int = 10,
    prior: str = "auto",
    seed: int = 0,
) -> Figure:
    """Draw unconditional samples: a row is a modality, a column one draw of z.

    Each modality has a w of its own.
    """
    output = method.sample(n, prior=prior, generator=torch.Generator().manual_seed(seed))
    return mosaic(
        [tiles(output[m.name], m) for m in method.modalities],
        rows=[m.name for m in method.modalities],
    )


def sheet(
    values: Mapping[str, Tensor],
    modalities: Sequence[Modality],
    columns: int = 16,
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


def _span(values: Tensor, modality: Modality) -> tuple[float, float] | None:
    """The common scale of observed and generated bar codes and unbounded images."""
    picture = len(modality.shape) == 3 and modality.unit
    return (
        None
        if modality.likelihood == "categorical" or picture
        else span_of(shown(values, modality))
    )
