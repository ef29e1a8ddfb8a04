"""Figures of a trained method: losses, pictures and maps of the latents.

Every function returns a :class:`matplotlib.figure.Figure` made without pyplot, so no backend is chosen or changed; show one
in a notebook by naming it, or keep it with ``figure.savefig("x.png")``. Pictures are drawn as mosaics of tiles: an image is
its own tile, a vector becomes a bar code (one stripe per feature, or per run of neighbouring features), word ids become text.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from counterpoint.types import Batch, Modality

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from counterpoint.data import Split
    from counterpoint.methods import Method

INK, FAINT = "#1f1d1a", "#b9b4aa"
SHARED, PRIVATE = "#2a8c93", "#d0653f"
CLASSES = ("#2a8c93", "#d0653f", "#7a6cc2", "#c79a2b", "#4f9a52", "#c2527f", "#4a7fc1", "#8d6b4f", "#7f8b94", "#a3b03c")
MAPS = ("pca", "tsne", "umap")
MAP_TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}

Tile = np.ndarray | str
"""What fills one cell of a mosaic: ``(H, W, 3)`` uint8, or text."""

Series = dict[str, tuple[np.ndarray, np.ndarray]]
"""Curves by name: (x, y), both ``(n,)``."""


# ------------------------------------------------------------------------------------------------ tiles


def tiles(values: Tensor | np.ndarray, modality: Modality, span: tuple[float, float] | None = None) -> list[Tile]:
    """Tiles of a stack of values.

    Args:
        values: ``(N, *shape)``; images in [0, 1]; ids, or probabilities ``(N, L, V)`` of a categorical modality.
        modality: what the values are.
        span: the values drawn darkest and lightest in a bar code; those of ``values`` by default.
    """
    array = values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if modality.likelihood == "categorical":
        ids = array.argmax(-1) if array.ndim > 1 + len(modality.shape) else array
        return [" ".join(str(int(i)) for i in row.ravel()) for row in ids]
    if len(modality.shape) == 3:
        return [_picture(image) for image in array]
    low, high = span_of(array) if span is None else span
    return [_barcode(row.ravel(), low, high) for row in array]


def span_of(values: Tensor | np.ndarray) -> tuple[float, float]:
    """The 2nd and 98th percentile of the values, kept apart where they are equal."""
    low, high = (float(v) for v in np.percentile(np.asarray(values, dtype=np.float64), (2, 98)))
    return low, max(high, low + 1e-6)


def _picture(image: np.ndarray) -> np.ndarray:
    """(C, H, W) in [0, 1] to (H, W, 3) uint8: one channel is grey, the first three of more are colours, two are averaged."""
    channels = image[:3] if len(image) >= 3 else np.broadcast_to(image.mean(0, keepdims=True), (3, *image.shape[1:]))
    result: np.ndarray = (np.clip(channels, 0, 1).transpose(1, 2, 0) * 255).round().astype(np.uint8)
    return result


def _barcode(row: np.ndarray, low: float, high: float, size: int = 32) -> np.ndarray:
    """(d,) to (size, size', 3) uint8, size' at most 64: stripes in a colour map that is perceptually uniform."""
    from matplotlib import colormaps

    if len(row) > 2 * size:
        row = np.array([part.mean() for part in np.array_split(row, 2 * size)])
    elif len(row) < size:
        row = np.repeat(row, max(1, size // len(row)))
    stripes = colormaps["cividis"](np.clip((row - low) / (high - low), 0, 1), bytes=True)[:, :3]
    return np.broadcast_to(stripes, (size, *stripes.shape)).copy()


def _fitted(tile: np.ndarray, size: int) -> np.ndarray:
    """The tile enlarged by a whole factor and centred on a transparent square of ``size``: pixels stay square and sharp."""
    factor = max(1, size // max(tile.shape[:2]))
    pixels = tile.repeat(factor, 0).repeat(factor, 1)
    canvas = np.zeros((size, size, 4), np.uint8)
    top, left = (size - pixels.shape[0]) // 2, (size - pixels.shape[1]) // 2
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
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
        block: height and width of a block, in tiles; blocks stand further apart than tiles.
        inches: side of a tile.
        lead: set the first block of rows and of columns (what the rest is made from) apart by a wider gap.

    Raises:
        ValueError: no tile at all.
    """
    from matplotlib.figure import Figure

    if not cells or not cells[0]:
        raise ValueError("a mosaic needs at least one tile")
    pictures = [cell for row in cells for cell in row if isinstance(cell, np.ndarray)]
    size = max((side for cell in pictures for side in cell.shape[:2]), default=32)
    tops = _offsets(len(cells), block[0], size, lead)
    lefts = _offsets(len(cells[0]), block[1], size, lead)
    height, width = tops[-1] + size, lefts[-1] + size
    canvas = np.zeros((height, width, 4), np.uint8)
    unit = inches / size
    margin_left = 0.085 * max((len(label) for label in rows), default=0) + (0.12 if rows else 0.02)
    margin_top = 0.28 if columns else 0.02
    figure = Figure(figsize=(margin_left + width * unit, margin_top + height * unit), facecolor="none")
    full_width, full_height = figure.get_size_inches()
    axes = figure.add_axes((margin_left / full_width, 0, width * unit / full_width, height * unit / full_height))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for top, row in zip(tops, cells, strict=True):
        for left, cell in zip(lefts, row, strict=True):
            if isinstance(cell, str):
                _write(axes, cell, left + size / 2, top + size / 2, inches)
            elif cell is not None:
                canvas[top : top + size, left : left + size] = _fitted(cell, size)
    axes.imshow(canvas, extent=(0, width, height, 0), interpolation="none", aspect="auto")
    for i, label in enumerate(rows):
        middle = (tops[i * block[0]] + tops[(i + 1) * block[0] - 1] + size) / 2
        axes.text(-0.09 / unit, middle, label, ha="right", va="center", fontsize=8.5, color=INK)
    for j, label in enumerate(columns):
        middle = (lefts[j * block[1]] + lefts[(j + 1) * block[1] - 1] + size) / 2
        axes.text(middle, -0.09 / unit, label, ha="center", va="bottom", fontsize=8.5, color=INK)
    return figure


def _offsets(count: int, block: int, size: int, lead: bool) -> list[int]:
    gap = max(1, size // 16)
    wide = 4 * gap if block > 1 else gap
    return [i * (size + gap) + (i // block) * (wide - gap) + (4 * gap if lead and i >= block else 0) for i in range(count)]


def _write(axes: Axes, text: str, x: float, y: float, inches: float) -> None:
    words, lines = text.split(" "), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 11 and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    if len(lines) > 5:
        lines = [*lines[:4], "…"]
    axes.text(x, y, "\n".join(lines), ha="center", va="center", fontsize=9 * inches, color=INK, family="monospace", linespacing=1.15)


# --------------------------------------------------------------------------------------------- pictures


def complete_rows(split: Split, n: int, labels: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """At most ``n`` rows that have every modality, drawn at random and spread evenly over the classes of ``labels``.

    Raises:
        ValueError: no row has every modality.
    """
    complete = np.flatnonzero(_complete(split))
    if not len(complete):
        raise ValueError("no row of this split has every modality; pictures compare modalities of one row")
    complete = np.random.default_rng(seed).permutation(complete)
    if labels is not None:
        classes = np.asarray(labels)[complete]
        turn = np.zeros(len(complete), np.int64)  # how many rows of the same class came before
        for value in np.unique(classes):
            here = classes == value
            turn[here] = np.arange(here.sum())
        complete = complete[np.lexsort((classes, turn))]
    return complete[:n]


def has_complete_rows(split: Split) -> bool:
    """Whether some row has every modality."""
    return bool(_complete(split).any())


def _complete(split: Split) -> np.ndarray:
    mask: np.ndarray = np.logical_and.reduce([np.asarray(p) for p in split.present.values()])
    return mask


def reconstructions(method: Method, split: Split, n: int = 10, seed: int = 0) -> Figure:
    """For every modality a row of data and, below it, what is decoded from its own posterior means."""
    batch = _batch(method, split, complete_rows(split, n, _first(split.shared_labels), seed))
    output = method.reconstruct(batch)
    cells: list[Sequence[Tile | None]] = []
    for m in method.modalities:
        span = _span(batch.x[m.name], m)
        cells += [tiles(batch.x[m.name], m, span), tiles(output[m.name], m, span)]
    return mosaic(cells, rows=[m.name for m in method.modalities], block=(2, 1))


def translations(method: Method, split: Split, n: int = 4, seed: int = 0, prior: str = "auto") -> Figure:
    """A matrix of blocks: row = the one modality given, column = the modality decoded; first column = what was given.

    The same ``n`` examples fill every block. On the diagonal a modality is decoded from itself; elsewhere the private latent of
    the target comes from the prior.
    """
    side = max(1, math.isqrt(n))
    batch = _batch(method, split, complete_rows(split, side * side, _first(split.shared_labels), seed))
    side = math.isqrt(len(batch))
    names = [m.name for m in method.modalities]
    known = {m.name: m for m in method.modalities}
    spans = {name: _span(batch.x[name], m) for name, m in known.items()}
    generator = torch.Generator().manual_seed(seed)
    cells: list[list[Tile | None]] = []
    for source in names:
        output = method.translate(batch.only([source]), to=names, n=1, prior=prior, generator=generator)
        blocks = [tiles(batch.x[source], known[source], spans[source])]
        blocks += [tiles(output[target][0], known[target], spans[target]) for target in names]
        cells += [[tile for block in blocks for tile in block[r * side : (r + 1) * side]] for r in range(side)]
    return mosaic(cells, rows=names, columns=["given", *(f"→ {name}" for name in names)], block=(side, side), inches=0.42)


def recombinations(method: Method, split: Split, modality: str | None = None, n: int = 7, seed: int = 0) -> Figure:
    """Rows take z from the example at their left, columns take w from the example above; where they meet, both are decoded.

    Raises:
        ValueError: the method has no private latents, or no modality of that name.
    """
    m = chosen_modality(method, modality)
    if m.name not in method.model.private_dims:
        raise ValueError(f"method {method.name!r} has no private latent for {m.name!r}, so there is nothing to recombine")
    private = _first({k: v[m.name] for k, v in split.private_labels.items() if m.name in v})
    rows = complete_rows(split, n, _first(split.shared_labels), seed)
    columns = complete_rows(split, n, private, seed + 1)
    shared_batch, private_batch = _batch(method, split, rows), _batch(method, split, columns)
    output = method.recombine(_batch(method, split, np.repeat(rows, len(columns))), _batch(method, split, np.tile(columns, len(rows))))
    span = _span(shared_batch.x[m.name], m)
    made = tiles(output[m.name], m, span)
    cells: list[list[Tile | None]] = [[None, *tiles(private_batch.x[m.name], m, span)]]
    for i, source in enumerate(tiles(shared_batch.x[m.name], m, span)):
        cells.append([source, *made[i * len(columns) : (i + 1) * len(columns)]])
    return mosaic(cells, lead=True, inches=0.56)


def samples(method: Method, n: int = 10, prior: str = "auto", seed: int = 0) -> Figure:
    """Unconditional samples: one row per modality; a column is one draw of z, with a w of its own for each modality."""
    output = method.sample(n, prior=prior, generator=torch.Generator().manual_seed(seed))
    return mosaic([tiles(output[m.name], m) for m in method.modalities], rows=[m.name for m in method.modalities])


def sheet(values: Mapping[str, Tensor], modalities: Sequence[Modality], columns: int = 16) -> Figure:
    """Values of several modalities, ``(N, *shape)`` each, wrapped to ``columns`` tiles a line; a block of lines per modality."""
    chosen = [m for m in modalities if m.name in values]
    cells: list[list[Tile | None]] = []
    for m in chosen:
        row: list[Tile | None] = [*tiles(values[m.name], m)]
        width = min(columns, len(row))
        row += [None] * (-len(row) % width)
        cells += [row[i : i + width] for i in range(0, len(row), width)]
    return mosaic(cells, rows=[m.name for m in chosen], block=(len(cells) // len(chosen), 1))


# ---------------------------------------------------------------------------------------------- latents


def latent_points(
    method: Method, split: Split, modality: str | None = None, n: int = 600, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Posterior means given one modality alone, and the labels of the same rows.

    Returns:
        points: ``{"z": (n, D), "w": (n, D_m)}``, without ``"w"`` where there is none; labels: every shared label, then
        every private label of the modality, each ``(n,)``.
    """
    m = chosen_modality(method, modality)
    here = np.flatnonzero(np.asarray(split.present[m.name]))
    rows = np.sort(np.random.default_rng(seed).permutation(here)[:n])
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, len(rows), 256):
        latents = method.encode(_batch(method, split, rows[start : start + 256]), given=[m.name])
        part = {"z": latents.shared[0].float().cpu().numpy()}
        if m.name in latents.private:
            part["w"] = latents.private[m.name][0].float().cpu().numpy()
        parts.append(part)
    points = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    labels = {name: np.asarray(values)[rows] for name, values in split.shared_labels.items()}
    labels |= {name: np.asarray(by[m.name])[rows] for name, by in split.private_labels.items() if m.name in by}
    return points, labels


def project(points: np.ndarray, kind: str, seed: int = 0) -> np.ndarray:
    """(n, D) to (n, 2) by ``"pca"``, ``"tsne"`` or ``"umap"``, on one core and the same for the same seed.

    Raises:
        ValueError: an unknown kind. ModuleNotFoundError: ``"umap"`` without umap-learn.
    """
    projections: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"pca": _pca, "tsne": _tsne, "umap": _umap}
    if kind not in projections:
        raise ValueError(f"unknown map {kind!r}; choose one of {', '.join(MAPS)}")
    points = np.asarray(points, dtype=np.float64)
    if points.shape[1] < 2 or len(points) < 16:  # too little for neighbour methods: the plane is the answer
        return _pca(points, seed)
    return projections[kind](points, seed)


def _pca(points: np.ndarray, seed: int) -> np.ndarray:
    centred = points - points.mean(0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    plane: np.ndarray = left[:, :2] * scale[:2]
    return np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))


def _tsne(points: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(points) - 1) / 3)
    result: np.ndarray = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(points.astype(np.float32))
    return result


def _umap(points: np.ndarray, seed: int) -> np.ndarray:
    threads = torch.get_num_threads()
    try:
        from umap import UMAP

        result: np.ndarray = UMAP(n_neighbors=min(15, len(points) - 1), random_state=seed, n_jobs=1).fit_transform(points)
    finally:
        torch.set_num_threads(threads)  # numba, which umap runs on, changes the number for the whole process
    return result


def latent_map(points: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], kind: str = "pca", seed: int = 0) -> Figure:
    """Each latent projected to the plane (rows), coloured by each label (columns).

    Args:
        points: ``(n, D)`` by latent, as from :func:`latent_points`.
        labels: ``(n,)`` integer classes by label.
        kind: ``"pca"``, ``"tsne"`` or ``"umap"``.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = list(labels) or [""]
    figure = Figure(
        figsize=(3.3 * len(columns) + 0.3, 3.0 * len(points) + 0.45),
        facecolor="none",
        layout=ConstrainedLayoutEngine(wspace=0.08, hspace=0.04),
    )
    grid = figure.subplots(len(points), len(columns), squeeze=False)
    for i, (latent, values) in enumerate(points.items()):
        plane = project(values, kind, seed)
        for j, label in enumerate(columns):
            axes: Axes = grid[i, j]
            colours = _colours(labels[label]) if label else [FAINT] * len(plane)
            axes.scatter(plane[:, 0], plane[:, 1], s=7, c=colours, linewidths=0, alpha=0.85, rasterized=True)
            axes.set(xticks=[], yticks=[], facecolor="none")
            axes.margins(0.04)
            for spine in axes.spines.values():
                spine.set(color=FAINT, linewidth=0.6)
            if j == 0:
                axes.set_ylabel(
                    latent,
                    fontsize=13,
                    fontstyle="italic",
                    rotation=0,
                    ha="right",
                    va="center",
                    labelpad=8,
                    color=SHARED if latent == "z" else PRIVATE,
                )
            if i == 0 and label:
                _key(axes, label, labels[label])
    return figure


def _colours(classes: np.ndarray) -> np.ndarray | list[str]:
    from matplotlib import colormaps

    values, index = np.unique(classes, return_inverse=True)
    if len(values) <= len(CLASSES):
        return [CLASSES[i] for i in index]
    result: np.ndarray = colormaps["turbo"](index / (len(values) - 1))
    return result


def _key(axes: Axes, label: str, classes: np.ndarray) -> None:
    """The label's name above a panel and, where they fit, its classes in their colours."""
    axes.text(0, 1.035, label, transform=axes.transAxes, fontsize=9.5, color=INK, ha="left", va="bottom")
    values = np.unique(classes)
    if len(values) <= len(CLASSES) and all(len(str(v)) < 3 for v in values):
        for k, value in enumerate(reversed(values)):
            colour = CLASSES[len(values) - 1 - k]
            axes.text(
                1 - 0.06 * k,
                1.035,
                str(value),
                transform=axes.transAxes,
                fontsize=9.5,
                color=colour,
                ha="right",
                va="bottom",
                weight="bold",
            )
    else:
        axes.text(1, 1.035, f"{len(values)} classes", transform=axes.transAxes, fontsize=8.5, color=INK, ha="right", va="bottom")


# ----------------------------------------------------------------------------------------------- losses


def read_history(path: str | Path) -> Series:
    """Curves of a ``metrics.csv``: every numeric column against its ``step`` (or ``epoch``, or the row's number).

    Empty cells are skipped, since training and validation values stand on lines of their own.

    Raises:
        FileNotFoundError: no such file. ValueError: a file without a header.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not reader.fieldnames:
            raise ValueError(f"{path} is empty; expected a CSV file with a header, as training writes it")
        names, lines = list(reader.fieldnames), list(reader)
    axis = next((name for name in ("step", "epoch") if name in names), None)
    curves: Series = {}
    for name in names:
        if name in ("step", "epoch"):
            continue
        pairs = [(_number(line[axis]) if axis else float(i), _number(line[name])) for i, line in enumerate(lines)]
        kept = np.array([p for p in pairs if not any(map(math.isnan, p))]).reshape(-1, 2)
        if len(kept):
            curves[name] = (kept[:, 0], kept[:, 1])
    return curves


def losses(history: Series | str | Path, columns: int = 3) -> Figure:
    """Small multiples: one panel per term, training and validation in one panel, each on its own scale.

    Raises:
        ValueError: no curve to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curves = history if isinstance(history, dict) else read_history(history)
    terms = [name for name in curves if name.startswith(("train/", "val/"))] or [*curves]
    panels: dict[str, Series] = {}
    for name in terms:
        stage, term = _stage(name)
        panels.setdefault(term, {})[stage] = curves[name]
    if not panels:
        raise ValueError("the history has no curve to draw; train for at least one step")
    order = sorted(panels, key=lambda term: term != "loss")
    columns = min(columns, len(order))
    lines = -(-len(order) // columns)
    figure = Figure(figsize=(2.6 * columns, 1.75 * lines), facecolor="none", layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, term in zip(grid, order, strict=False):
        for stage, (x, y) in panels[term].items():
            validation = stage == "val"
            axes.plot(x, y, color=PRIVATE if validation else SHARED, linewidth=1.3, alpha=0.95, marker="o" if len(x) == 1 else None, ms=3)
        axes.set_title(term, fontsize=9.5, color=INK, loc="left")
        axes.tick_params(labelsize=7.5, colors=INK, length=2.5, width=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_facecolor("none")
        axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.6)
        for side, spine in axes.spines.items():
            spine.set(visible=side in ("left", "bottom"), color=FAINT, linewidth=0.6)
    for axes in grid[len(order) :]:
        axes.set_axis_off()
    return figure


def _stage(name: str) -> tuple[str, str]:
    """'train/kl/z' to ('train', 'kl/z') and 'val/elbo' to ('val', 'elbo'); a name without a stage is of training."""
    stage, _, term = name.partition("/")
    return (stage, term) if stage in ("train", "val") and term else ("train", name)


# ---------------------------------------------------------------------------------------------- helpers


def _number(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan


def _first(labels: Mapping[str, Any]) -> np.ndarray | None:
    return next((np.asarray(v) for v in labels.values()), None)


def _device(method: Method) -> torch.device:
    return next(method.parameters()).device


def _batch(method: Method, split: Split, rows: np.ndarray) -> Batch:
    return split.batch(rows, device=_device(method))


def _span(values: Tensor, modality: Modality) -> tuple[float, float] | None:
    """One scale for what was observed and what was made, so that bar codes can be compared."""
    return None if modality.likelihood == "categorical" or len(modality.shape) == 3 else span_of(values.cpu())


def chosen_modality(method: Method, name: str | None) -> Modality:
    """The named modality; by default the first image, or the first of all."""
    known = {m.name: m for m in method.modalities}
    if name is None:
        return next((m for m in method.modalities if len(m.shape) == 3), method.modalities[0])
    if name not in known:
        raise ValueError(f"unknown modality {name!r}; choose one of {', '.join(known)}")
    return known[name]
