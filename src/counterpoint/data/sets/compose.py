"""Digits over backgrounds, and pairing by class: what the digit data sets have in
common. All of it works on whole arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

Paint = Literal["invert", "red", "blue"]


def pair_by_class(
    labels: Sequence[np.ndarray], pairings: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pair the rows of several views that show the same class, each view permuted
    independently within the class.

    In each pairing a class has as many rows as in the view that has most of it. A view
    that has fewer goes round again in a new order. Rows come in random order of class.

    Args:
        labels: by view, the class of each row.
        pairings: how many times to pair everything anew; they follow each other.

    Returns:
        The class of each pair ``(N,)`` and the row to take from each view ``(views,
        N)``.

    Raises:
        ValueError: fewer than one pairing, or a class that a view lacks.
    """
    if pairings < 1:
        raise ValueError(f"pairings {pairings} must be 1 or more")
    classes = np.unique(np.concatenate(labels))
    members = [[np.flatnonzero(view == c) for c in classes] for view in labels]
    counts = [max(len(view[i]) for view in members) for i in range(len(classes))]
    for view, rows in enumerate(members):
        lacking = [int(c) for c, m in zip(classes, rows, strict=True) if not len(m)]
        if lacking:
            raise ValueError(
                f"view {view} has no row of class {lacking[0]}; every view needs every class to be paired"
            )
    paired = []
    index = []
    for _ in range(pairings):
        label = rng.permutation(np.repeat(classes, counts))
        rows_of = np.empty((len(labels), len(label)), np.int64)
        for i, c in enumerate(classes):
            at = np.flatnonzero(label == c)
            for view, rows in enumerate(members):
                rounds = -(-counts[i] // len(rows[i]))
                rows_of[view, at] = np.concatenate(
                    [rng.permutation(rows[i]) for _ in range(rounds)]
                )[: counts[i]]
        paired.append(label)
        index.append(rows_of)
    return np.concatenate(paired).astype(np.int64), np.concatenate(index, 1)


def hold_out(
    labels: np.ndarray, per_class: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out ``per_class`` random rows of each class, or half of a class that has
    fewer than twice as many. Return the sorted numbers of the rows that stay and of
    those held out."""
    of_class = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    held_out = np.sort(
        np.concatenate([rows[: min(per_class, len(rows) // 2)] for rows in of_class])
    )
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def resize(images: np.ndarray, side: int) -> np.ndarray:
    """Resize grey images uint8 (N, h, w) to (N, side, side): bilinear, smoothed when
    shrinking, as PIL does it."""
    if images.shape[1:] == (side, side):
        return images
    pixels = torch.from_numpy(np.ascontiguousarray(images))[:, None].float()
    small = torch.nn.functional.interpolate(
        pixels, size=(side, side), mode="bilinear", antialias=True
    )
    return small[:, 0].round_().clamp_(0, 255).to(torch.uint8).numpy()


def place(digits: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Place opacities uint8 (N, h, w) on clear canvases (N, size, size), each with its
    top left pixel at ``corners`` (N, 2)."""
    canvas = np.zeros((len(digits), size, size), np.uint8)
    windows = sliding_window_view(canvas, digits.shape[1:], axis=(1, 2), writeable=True)
    windows[np.arange(len(digits)), corners[:, 0], corners[:, 1]] = digits
    return canvas


def crops(picture: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Crop a picture (3, H, W) to (N, 3, size, size), each crop with its top left pixel
    at ``corners`` (N, 2)."""
    windows = sliding_window_view(picture, (size, size), axis=(1, 2)).transpose(1, 2, 0, 3, 4)
    return windows[corners[:, 0], corners[:, 1]]


def random_corners(
    picture: np.ndarray, size: int, rows: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw places (rows, 2) at which a crop of this size fits, uniformly."""
    return rng.integers(0, np.array(picture.shape[1:]) - size + 1, (rows, 2))


def paint(backgrounds: np.ndarray, opacity: np.ndarray, how: Paint) -> np.ndarray:
    """Draw digits of opacity uint8 (N, H, W), 0 clear to 255 solid, onto backgrounds
    (N, 3, H, W): inverted colours, pure red, or pure blue."""
    ink = opacity[:, None].astype(np.uint16)
    target = (
        255 - backgrounds
        if how == "invert"
        else np.array([how == "red", 0, how == "blue"], np.uint16)[:, None, None] * np.uint16(255)
    )
    return ((backgrounds * (255 - ink) + target * ink + np.uint16(127)) // np.uint16(255)).astype(
        np.uint8
    )


def quadrant_corners(quadrant: np.ndarray, size: int) -> np.ndarray:
    """Return the top left pixels (N, 2) of the quadrants 0 top left, 1 top right, 2
    bottom left, 3 bottom right."""
    return np.stack([quadrant // 2, quadrant % 2], 1) * (size // 2)


def quadrant_paints(views: int) -> tuple[Paint, ...]:
    """Return how each view of a quadrant set draws its digit: the first red, the last
    blue, those between inverted."""
    inverted: Paint = "invert"
    return ("red", *[inverted] * (views - 2), "blue") if views > 1 else ("red",)
