"""Posteriors in the plane, for methods whose shared latent has two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.core.batch import Batch
from counterpoint.core.latents import Latents
from counterpoint.core.noise import seeded
from counterpoint.figures.rows import complete_batch
from counterpoint.figures.style import FAINT, INK, PRIVATE, SHARED
from counterpoint.figures.tiling import Tile, tiles
from counterpoint.model.decoders import Draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from counterpoint.data import Split
    from counterpoint.figures.drawable import Drawable

_GRID_SIDE = 32
_ZOOM_ROUNDS = 3
_ENCLOSED_MASS = 0.95


def posteriors(
    method: Drawable, split: Split, n: int = 4, draws: int = 400, seed: int = 0
) -> Figure:
    """Draw examples and their posteriors given each modality alone and given all.

    A row is an example. Points are draws of q(z | x_S), over the posterior means of
    other rows in the background. The line encloses 95 % of the model's own posterior,
    ∝ p(z) ∏ p(x_m | z), within the panel.

    Raises:
        ValueError: a shared latent that is not two-dimensional, private latents, or
            decoders without an exact density.
    """
    from matplotlib.figure import Figure

    if not in_the_plane(method):
        raise ValueError(
            "posteriors are drawn for a shared latent of two dimensions, no private ones, "
            "and decoders with a density"
        )
    names = [m.name for m in method.modalities]
    batch = complete_batch(method, split, n, seed=seed)
    others = complete_batch(method, split, 600, seed=seed)
    cloud = method.encode(others).shared[0].float().cpu()
    sets = [*([name] for name in names), names]
    with seeded(torch.Generator().manual_seed(seed)):
        drawn = []
        for given in sets:
            latents = method.encode(batch.only(given), given, samples=draws)
            drawn.append(latents.shared.float().cpu())
    figure = Figure(
        figsize=(0.8 * len(names) + 1.7 * len(sets), 1.7 * len(batch) + 0.3),
        facecolor="none",
        layout="constrained",
    )
    grid = figure.subplots(
        len(batch),
        len(names) + len(sets),
        squeeze=False,
        width_ratios=[1] * len(names) + [2.1] * len(sets),
    )
    for column, m in enumerate(method.modalities):
        grid[0, column].set_title(m.name, fontsize=8.5, color=INK)
        for axes, tile in zip(grid[:, column], tiles(batch.x[m.name], m), strict=True):
            _draw_example(axes, tile)
    for column, (given, points) in enumerate(zip(sets, drawn, strict=True), len(names)):
        title = "given " + (given[0] if len(given) < len(names) else "everything")
        grid[0, column].set_title(title, fontsize=8.5, color=INK)
        for i, axes in enumerate(grid[:, column]):
            _draw_posterior(axes, method, batch[i : i + 1], given, points[:, i], cloud)
    return figure


def _draw_example(axes: Axes, tile: Tile) -> None:
    if isinstance(tile, str):
        axes.text(0.5, 0.5, tile, ha="center", color=INK)
    else:
        axes.imshow(tile)
    axes.set_axis_off()


def _draw_posterior(
    axes: Axes,
    method: Drawable,
    example: Batch,
    given: Sequence[str],
    points: torch.Tensor,
    cloud: torch.Tensor,
) -> None:
    """Draws (N, 2) of one example, and the contour of the model's own posterior."""
    reach = 1.3 * float(cloud.abs().max())
    x, y, density = _log_posterior(method, example, given, reach)
    axes.scatter(cloud[:, 0], cloud[:, 1], s=2, c=FAINT, linewidths=0, rasterized=True)
    axes.scatter(points[:, 0], points[:, 1], s=3, c=SHARED, linewidths=0, rasterized=True)
    level = _level(density)
    axes.contour(x, y, density.T, levels=[level], colors=[PRIVATE], linewidths=0.8, zorder=5)
    axes.set(
        xticks=[],
        yticks=[],
        xlim=(-reach, reach),
        ylim=(-reach, reach),
        facecolor="none",
        aspect="equal",
    )
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.6)


def in_the_plane(method: Drawable) -> bool:
    """Whether :func:`posteriors` can draw them."""
    model = method.model
    return model.shared_dim == 2 and not model.private_dims and not model.surrogates


@torch.no_grad()
def _log_posterior(
    method: Drawable, example: Batch, given: Sequence[str], reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log p(z) + Σ_m log p(x_m | z) of one row on a grid, (N, N), and the grid's axes:
    first of the whole panel, then closer and closer around where the mass is."""
    model = method.model
    names = tuple(given)
    low = np.full(2, -reach)
    high = np.full(2, reach)
    for turn in range(_ZOOM_ROUNDS):
        axes = [np.linspace(low[d], high[d], _GRID_SIDE) for d in range(2)]
        z = (
            torch.cartesian_prod(*(torch.as_tensor(axis) for axis in axes))
            .to(next(model.parameters()))
            .unsqueeze(1)
        )
        parts = []
        for some in z.split(512):
            raw = model.decode([Draw(Latents(some, {}), names)], example.covariates)[0]
            parts.append(
                model.prior().log_prob(some)
                + sum(model.log_prob(name, raw[name], example) for name in names)
            )
        density = torch.cat(parts).reshape(_GRID_SIDE, _GRID_SIDE).double().cpu().numpy()
        if turn + 1 < _ZOOM_ROUNDS:
            mass = np.argwhere(density > density.max() - 12)  # nats
            cell = (high - low) / (_GRID_SIDE - 1)
            first = low
            low = first + (mass.min(0) - 1) * cell
            high = first + (mass.max(0) + 1) * cell
    return axes[0], axes[1], density


def _level(log_density: np.ndarray) -> float:
    """The level whose contour encloses 95 % of the mass on the grid."""
    values = np.sort(log_density.ravel())[::-1].astype(np.float64)
    mass = np.cumsum(np.exp(values - values[0]))
    return float(values[np.searchsorted(mass, _ENCLOSED_MASS * mass[-1])])
