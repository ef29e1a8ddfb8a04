"""Maps of the latents: posterior means projected to the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.report.figures.rows import batch_of, chosen_modality
from counterpoint.report.figures.style import CLASSES, FAINT, INK, PRIVATE, SHARED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from counterpoint.data import Split
    from counterpoint.methods import Method

MAPS = ("pca", "tsne", "umap")
MAP_TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def latent_points(
    method: Method, split: Split, modality: str | None = None, n: int = 600, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Encode rows given one modality alone, and return their labels too.

    Returns:
        points: posterior means ``{"z": (n, D), "w": (n, D_m)}``; no ``"w"`` without
            private latents.
        labels: every shared label, then every private label of the modality, each
            ``(n,)``.
    """
    m = chosen_modality(method, modality)
    here = np.flatnonzero(np.asarray(split.present[m.name]))
    rows = np.sort(np.random.default_rng(seed).permutation(here)[:n])
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, len(rows), 256):
        latents = method.encode(batch_of(method, split, rows[start : start + 256]), given=[m.name])
        part = {"z": latents.shared[0].float().cpu().numpy()}
        if m.name in latents.private:
            part["w"] = latents.private[m.name][0].float().cpu().numpy()
        parts.append(part)
    points = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    labels = {name: np.asarray(values)[rows] for name, values in split.shared_labels.items()}
    labels |= {
        name: np.asarray(by[m.name])[rows]
        for name, by in split.private_labels.items()
        if m.name in by
    }
    return points, labels


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
        from umap import UMAP

        result: np.ndarray = UMAP(
            n_neighbors=min(15, len(points) - 1), random_state=seed, n_jobs=1
        ).fit_transform(points)
    finally:
        # Numba, which umap runs on, changes the number for the whole process.
        torch.set_num_threads(threads)
    return result


def latent_map(
    points: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    kind: str = "pca",
    seed: int = 0,
) -> Figure:
    """Draw each latent projected to the plane (rows), coloured by each label (columns).

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
            axes.scatter(
                plane[:, 0], plane[:, 1], s=7, c=colours, linewidths=0, alpha=0.85, rasterized=True
            )
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

    values = np.unique(classes[classes >= 0])
    index = np.searchsorted(values, classes)
    if len(values) <= len(CLASSES):
        return [CLASSES[i] if c >= 0 else FAINT for i, c in zip(index, classes, strict=True)]
    result: np.ndarray = colormaps["turbo"](index / (len(values) - 1))
    result[classes < 0] = colormaps["binary"](0.3)
    return result


def _key(axes: Axes, label: str, classes: np.ndarray) -> None:
    """Write the label's name above a panel and, if they fit, its classes in colour."""
    axes.text(
        0, 1.035, label, transform=axes.transAxes, fontsize=9.5, color=INK, ha="left", va="bottom"
    )
    values = np.unique(classes[classes >= 0])
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
        axes.text(
            1,
            1.035,
            f"{len(values)} classes",
            transform=axes.transAxes,
            fontsize=8.5,
            color=INK,
            ha="right",
            va="bottom",
        )
