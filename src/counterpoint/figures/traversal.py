"""What one coordinate of a latent changes: it moves, everything else stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from counterpoint.core.batch import Batch
from counterpoint.core.latents import Latents, modality_of
from counterpoint.core.modality import Modality
from counterpoint.figures.style import CLASSES, FAINT, INK, PRIVATE, SHARED
from counterpoint.figures.tiling import shown, strip, tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from counterpoint.figures.drawable import Drawable

_TILE_INCHES = 0.62
_LINES_INCHES = 1.7
_KEY_INCHES = 1.4


def traversal(
    method: Drawable,
    example: Batch,
    *,
    latent: str = "z",
    coordinate: int = 0,
    span: tuple[float, float] = (-3.0, 3.0),
    steps: int = 9,
    features: int = 6,
    seed: int = 0,
) -> Figure:
    """Draw the modalities while one coordinate of a latent moves over a range.

    The other coordinates and latents stay at the posterior means of the example. Images
    and text are strips. Of a vector, lines show the features that move most.

    Args:
        method: the method.
        example: one row.
        latent: ``"z"``, or the key of a private latent, such as ``"w_photo"``, which
            moves its own modality alone.
        coordinate: counts from 0.
        span: first and last value of the coordinate.
        steps: number of values, 2 or more.
        features: number of lines of a vector.
        seed: of what diffusion decoders draw.

    Raises:
        ValueError: an unknown latent, a coordinate that it does not have, an empty
            range, fewer than 2 steps, or an example without the latent's modality.
    """
    from matplotlib.figure import Figure

    _check(method, example, latent, coordinate, span, steps)
    values = torch.linspace(*span, steps, device=method.device)
    made = _decoded(method, example, latent, coordinate, values, seed)
    drawn = [m for m in method.modalities if m.name in made]
    heights = [_LINES_INCHES if _is_vector(m) else _TILE_INCHES for m in drawn]
    width = _TILE_INCHES * steps + (_KEY_INCHES if any(map(_is_vector, drawn)) else 0.2)
    figure = Figure(figsize=(width, sum(heights) + 0.5), facecolor="none", layout="constrained")
    grid = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=heights)[:, 0]
    places = values.cpu().numpy()
    for axes, m in zip(grid, drawn, strict=True):
        if _is_vector(m):
            _draw_lines(axes, places, shown(made[m.name], m), m, features)
        else:
            strip(axes, tiles(made[m.name], m), _TILE_INCHES)
        axes.set_title(m.name, fontsize=9, color=INK, loc="left")
    name = modality_of(latent)
    figure.supxlabel(
        f"{'z' if name is None else f'w of {name}'}, coordinate {coordinate},"
        f" from {span[0]:g} to {span[1]:g}",
        fontsize=9,
        color=SHARED if name is None else PRIVATE,
    )
    return figure


def _check(
    method: Drawable,
    example: Batch,
    latent: str,
    coordinate: int,
    span: tuple[float, float],
    steps: int,
) -> None:
    sizes = method.model.latents
    if latent not in sizes:
        raise ValueError(f"no latent {latent!r}; this model has {', '.join(sizes)}")
    if not 0 <= coordinate < sizes[latent]:
        raise ValueError(
            f"coordinate {coordinate} of {latent!r} is outside 0 to {sizes[latent] - 1}"
        )
    if not span[0] < span[1] or steps < 2:
        raise ValueError(f"span {span} must rise, and steps {steps} must be 2 or more")
    name = modality_of(latent)
    if name is not None and not bool(example.present[name].all()):
        raise ValueError(f"the example lacks {name!r}, whose latent moves; choose another row")


def _decoded(
    method: Drawable, example: Batch, latent: str, coordinate: int, values: Tensor, seed: int
) -> dict[str, Tensor]:
    """Means (steps, *shape) of the modalities that the latent moves."""
    means = method.encode(example).by_key()
    moved = {key: mean.expand(1, len(values), -1).clone() for key, mean in means.items()}
    moved[latent][0, :, coordinate] = values.to(moved[latent])
    private = {name: moved[key] for key in moved if (name := modality_of(key)) is not None}
    name = modality_of(latent)
    known = example.covariates if example.covariates.shape[1] and method.model.covariates else None
    out = method.decode(
        Latents(moved["z"], private),
        None if name is None else [name],
        covariates=None if known is None else known[0],
        generator=torch.Generator().manual_seed(seed),
    )
    return {name: means[0] for name, means in out.items()}


def _is_vector(modality: Modality) -> bool:
    return len(modality.shape) != 3 and modality.likelihood != "categorical"


def moving_features(values: np.ndarray, count: int) -> np.ndarray:
    """The features of (steps, d) values with the widest ranges, widest first.

    >>> moving_features(np.array([[0.0, 5.0, 1.0], [3.0, 5.0, 0.0]]), 2)
    array([0, 2])
    """
    order: np.ndarray = np.argsort(-np.ptp(values, axis=0), kind="stable")
    return order[:count]


def _draw_lines(
    axes: Axes, places: np.ndarray, values: np.ndarray, modality: Modality, count: int
) -> None:
    flat = values.reshape(len(values), -1)
    for i, colour in zip(moving_features(flat, min(count, len(CLASSES))), CLASSES, strict=False):
        label = modality.features[i] if modality.features else f"feature {i}"
        axes.plot(places, flat[:, i], color=colour, linewidth=1.4, label=label)
    half = (places[1] - places[0]) / 2
    axes.set_xlim(places[0] - half, places[-1] + half)  # values below the tiles that they make
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7.5, frameon=False)
    axes.tick_params(labelsize=7.5, colors=INK, length=2.5, width=0.6)
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=FAINT, linewidth=0.6)
