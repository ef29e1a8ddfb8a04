"""``circles-squares`` and ``circles-squares-size``: the toy set of JNF, drawn in
memory.

JNF 2025, https://arxiv.org/abs/2502.03952: two grey images, a circle and a square, each
of some size and either filled or outlined. One of the two properties is shared, the
other belongs to each image alone. With two latent dimensions, the true posteriors of
one modality can be drawn, and are not Gaussian. We chose the sizes, the strokes and the
numbers of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.source import Request, Source
from counterpoint.data.split import Split

MODALITIES = ("circle", "square")

_ROWS = {"train": 20_000, "val": 1_000, "test": 2_000}

# in sides of the canvas
_SMALLEST = 0.15
_LARGEST = 0.45
_STROKE = 0.06
_BINS = 4

_BLOCK = 64  # images at once, so that what they take on the way stays near the processor


@dataclass(frozen=True)
class ShapesOptions:
    """Options of ``circles-squares`` and ``circles-squares-size``.

    Args:
        size: side of the canvas, at least 16.
    """

    size: int = 32


def circles_squares(request: Request, options: ShapesOptions) -> Dataset:
    """Draw pairs of a circle and a square, 1×size×size each.

    The labels are ``filled`` (2) and ``size`` (4 equal bins). One of them is shared:
    ``size`` in ``circles-squares-size``, else ``filled``. Each modality has its own of
    the other.

    Raises:
        ValueError: a canvas that is too small.
    """
    size = options.size
    seed = request.seed
    name = request.name
    shares = "size" if name == "circles-squares-size" else "filled"
    if size < 16:
        raise ValueError(f"size {size} of circles-squares must be at least 16")
    modalities = tuple(
        Modality(shape, (1, size, size), "bernoulli", scale=None) for shape in MODALITIES
    )
    splits = {}
    for i, (part, rows) in enumerate(_ROWS.items()):
        rng = np.random.default_rng((seed, i))
        filled = {shape: rng.integers(0, 2, rows) for shape in MODALITIES}
        radius = {shape: rng.uniform(_SMALLEST, _LARGEST, rows) for shape in MODALITIES}
        if shares == "filled":
            filled["square"] = filled["circle"]
        else:
            radius["square"] = radius["circle"]
        x = {shape: draw(shape, radius[shape], filled[shape], size) for shape in MODALITIES}
        labels = {"filled": filled, "size": {shape: _bin(r) for shape, r in radius.items()}}
        private = {label: by for label, by in labels.items() if label != shares}
        splits[part] = Split(
            x, modalities, shared_labels={shares: labels[shares]["circle"]}, private_labels=private
        )
    return Dataset(
        name,
        modalities,
        splits["train"],
        splits["val"],
        splits["test"],
        {"source": "drawn from random sizes and fillings"},
    )


def draw(shape: str, radius: np.ndarray, filled: np.ndarray, size: int) -> np.ndarray:
    """Draw images uint8 (N, 1, size, size), edges smoothed over a pixel.

    Args:
        shape: ``"circle"`` or ``"square"``.
        radius: (N,), of the circle, or half the square's side, in sides of the canvas.
        filled: (N,) 0 for an outline, 1 for a full shape.
    """
    at = (np.arange(size) + 0.5) / size - 0.5
    distance = (
        np.hypot(at[:, None], at)
        if shape == "circle"
        else np.maximum(np.abs(at[:, None]), np.abs(at))
    )
    images = np.empty((len(radius), 1, size, size), np.uint8)
    for start in range(0, len(radius), _BLOCK):
        rows = slice(start, start + _BLOCK)
        outside = (
            distance - radius[rows, None, None]
        ) * size  # (rows, size, size), in pixels; negative inside
        inside = np.clip(0.5 - outside, 0, 1)
        hole = np.clip(0.5 - outside - _STROKE * size, 0, 1)
        outlined = 1 - filled[rows, None, None]
        images[rows, 0] = np.rint(255 * (inside - outlined * hole))
    return images


def _bin(radius: np.ndarray) -> np.ndarray:
    share = (radius - _SMALLEST) / (_LARGEST - _SMALLEST)
    return np.clip((share * _BINS).astype(np.int64), 0, _BINS - 1)


SOURCES = (
    Source(
        "circles-squares",
        "a circle and a square that are both filled or both outlined, 1×32×32; needs no files",
        ShapesOptions,
        circles_squares,
    ),
    Source(
        "circles-squares-size",
        "the same, of one size instead; needs no files",
        ShapesOptions,
        circles_squares,
    ),
)
