"""Maps of the latents: posterior means projected to the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.core.latents import modality_of
from counterpoint.core.optional import required
from counterpoint.figures.colouring import colouring
from counterpoint.figures.style import FAINT, PRIVATE, SHARED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from counterpoint.data import Split
    from counterpoint.figures.drawable import Drawable

MAPS = ("pca", "tsne", "umap")
MAP_TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_ENCODED_AT_ONCE = 256


@dataclass(frozen=True)
class Cloud:
    """Posterior means of one latent.

    Args:
        values: ``(n, D)``.
        rows: the rows of the split that have it, ``(n,)``.
    """

    values: np.ndarray
    rows: np.ndarray


def latent_points(
    method: Drawable,
    split: Split,
    given: Sequence[str] | None = None,
    n: int = 600,
    seed: int = 0,
) -> dict[str, Cloud]:
    """Encode random rows of a split.

    Args:
        method: the method.
        split: the rows.
        given: modalities to condition on; all that a row has by default.
        n: the most rows.
        seed: chooses them.

    Returns:
        By key of the latent (``"z"``, ``"w_photo"``) its points: z of every row, a
        private latent of the rows that have its modality.
    """
    names = [m.name for m in method.modalities] if given is None else list(given)
    present = {name: np.asarray(split.present[name]) for name in names}
    here = np.flatnonzero(np.logical_or.reduce([*present.values()]))
    rows = np.sort(np.random.default_rng(seed).permutation(here)[:n])
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(rows), _ENCODED_AT_ONCE):
        batch = split.batch(rows[start : start + _ENCODED_AT_ONCE], device=method.device)
        latents = method.encode(batch, given=names)
        for key, means in latents.by_key().items():
            parts.setdefault(key, []).append(means[0].float().cpu().numpy())
    clouds = {}
    for key, values in parts.items():
        name = modality_of(key)
        seen = np.ones(len(rows), bool) if name is None else present[name][rows]
        clouds[key] = Cloud(np.concatenate(values)[seen], rows[seen])
    return clouds


def project(points: np.ndarray, kind: str, seed: int = 0) -> np.ndarray:
    """Project (n, D) to (n, 2) by ``"pca"``, ``"tsne"`` or ``"umap"``.

    It runs on one core, and the same seed gives the same result.

    Raises:
        ValueError: an unknown kind.
        ModuleNotFoundError: ``"umap"`` without umap-learn.
    """
    projections: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "pca": _pca,
        "tsne": _tsne,
        "umap": _umap,
    }
    if kind not in projections:
        raise ValueError(f"unknown map {kind!r}; choose one of {', '.join(MAPS)}")
    points = np.asarray(points, dtype=np.float64)
    if (
        points.shape[1] < 2 or len(points) < 16
    ):  # too little for neighbour methods: the plane is the answer
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
    result: np.ndarray = TSNE(
        perplexity=perplexity, init="pca", random_state=seed, n_jobs=1
    ).fit_transform(points.astype(np.float32))
    return result


def _umap(points: np.ndarray, seed: int) -> np.ndarray:
    threads = torch.get_num_threads()
    try:
        result: np.ndarray = (
            required("umap", "umap")
            .UMAP(n_neighbors=min(15, len(points) - 1), random_state=seed, n_jobs=1)
            .fit_transform(points)
        )
    finally:
        # Numba, which umap runs on, changes the number for the whole process.
        torch.set_num_threads(threads)
    return result


def latent_map(
    split: Split,
    points: Mapping[str, Cloud],
    colours: Sequence[str] = (),
    kind: str = "pca",
    seed: int = 0,
) -> Figure:
    """Draw each latent projected to the plane (rows), coloured in turn (columns).

    Args:
        split: the rows of the points.
        points: by latent, as from :func:`latent_points`.
        colours: labels and covariates, a column for each.
        kind: ``"pca"``, ``"tsne"`` or ``"umap"``.
        seed: of the projection.

    Raises:
        ValueError: a colour that is no label and no covariate, or an unknown kind.
        ModuleNotFoundError: ``"umap"`` without umap-learn.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown: Sequence[str | None] = [*colours] or [None]
    columns = len(shown)
    figure = Figure(
        figsize=(3.3 * columns + 0.3, 3.0 * len(points) + 0.45),
        facecolor="none",
        layout=ConstrainedLayoutEngine(wspace=0.08, hspace=0.04),
    )
    grid = figure.subplots(len(points), columns, squeeze=False)
    for line, (key, cloud) in zip(grid, points.items(), strict=True):
        plane = project(cloud.values, kind, seed)
        for axes, colour in zip(line, shown, strict=True):
            _draw_cloud(axes, plane, split, cloud.rows, colour, modality_of(key))
        _name_latent(line[0], key)
    return figure


def _draw_cloud(
    axes: Axes,
    plane: np.ndarray,
    split: Split,
    rows: np.ndarray,
    colour: str | None,
    modality: str | None,
) -> None:
    chosen: np.ndarray | list[str] = [FAINT] * len(plane)
    if colour is not None:
        known = colouring(split, colour, rows, modality)
        chosen = known.colours()
        known.draw_key(axes)
    axes.scatter(plane[:, 0], plane[:, 1], s=7, c=chosen, linewidths=0, alpha=0.85, rasterized=True)
    axes.set(xticks=[], yticks=[], facecolor="none")
    axes.margins(0.04)
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.6)


def _name_latent(axes: Axes, key: str) -> None:
    name = modality_of(key)
    axes.set_ylabel(
        "z" if name is None else f"w of {name}",
        fontsize=13 if name is None else 11,
        fontstyle="italic",
        rotation=0 if name is None else 90,
        color=SHARED if name is None else PRIVATE,
    )
