"""``digits-quadrant``: the embedded data set, made in memory from scikit-learn's 1,797
digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.sets.compose import (
    crops,
    paint,
    pair_by_class,
    place,
    quadrant_corners,
    quadrant_paints,
    random_corners,
    resize,
)
from counterpoint.data.sets.textures import texture
from counterpoint.data.source import Request, Source
from counterpoint.data.split import Split

_TRAIN_PER_CLASS = 110
_VAL_PER_CLASS = 20

_EVALUATION_PAIRINGS = 4


@dataclass(frozen=True)
class DigitsOptions:
    """Options of ``digits-quadrant``.

    Args:
        size: side of the canvas, even and at least 16; a digit fills a quadrant.
        views: number of modalities.
        pairings: pairings of the training digits (validation and test have 4).
    """

    size: int = 16
    views: int = 3
    pairings: int = 16


def digits_quadrant(request: Request, options: DigitsOptions) -> Dataset:
    """Make a small PolyMNIST-Quadrant: real 8×8 digits, each in a random quadrant of an
    RGB canvas over a texture of its view.

    Views ``view0 .. view{M-1}`` of a row show digits of one class, drawn independently.
    The shared label is ``digit`` (10). The private label is ``quadrant`` (4: top left,
    top right, bottom left, bottom right), uniform and independent per view. The first
    view paints its digit red, the last blue, those between invert the colours under it.
    Which digit belongs to which split never changes: 1,100 / 200 / 497 digits,
    stratified by class. The seed changes textures, pairs, quadrants and crops.

    Raises:
        ValueError: an option out of range.
    """
    size = options.size
    views = options.views
    seed = request.seed
    if size < 16 or size % 2:
        raise ValueError(f"size {size} of digits-quadrant must be even and at least 16")
    if views < 1:
        raise ValueError(f"views {views} must be 1 or more")
    images, labels = _digits()
    inks = resize(images, size // 2)
    modalities = tuple(Modality(f"view{v}", (3, size, size), "laplace", 0.75) for v in range(views))
    textures = [texture(v, seed, max(256, 4 * size)) for v in range(views)]
    splits = {}
    for i, (part, rows) in enumerate(_fixed_split(labels).items()):
        rng = np.random.default_rng((seed, i))
        splits[part] = _make(
            inks[rows],
            labels[rows],
            textures,
            modalities,
            options.pairings if part == "train" else _EVALUATION_PAIRINGS,
            rng,
        )
    notes = {
        "digits": "scikit-learn's 8×8 digits (UCI optical recognition of handwritten digits)",
        "backgrounds": "synthesised textures",
    }
    return Dataset(
        "digits-quadrant", modalities, splits["train"], splits["val"], splits["test"], notes
    )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """All digits as uint8 (1797, 8, 8) on [0, 255] and their classes."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return pixels, labels.astype(np.int64)


def _fixed_split(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Row numbers of each split, the same whatever the options."""
    rng = np.random.default_rng(1998)
    cuts = (_TRAIN_PER_CLASS, _TRAIN_PER_CLASS + _VAL_PER_CLASS)
    parts = [np.split(rng.permutation(np.flatnonzero(labels == c)), cuts) for c in range(10)]
    return {
        name: np.sort(np.concatenate([p[i] for p in parts]))
        for i, name in enumerate(("train", "val", "test"))
    }


def _make(
    inks: np.ndarray,
    labels: np.ndarray,
    textures: list[np.ndarray],
    modalities: tuple[Modality, ...],
    pairings: int,
    rng: np.random.Generator,
) -> Split:
    size = modalities[0].shape[-1]
    digit, rows = pair_by_class([labels] * len(modalities), pairings, rng)
    x = {}
    quadrants = {}
    for view, (modality, how) in enumerate(
        zip(modalities, quadrant_paints(len(modalities)), strict=True)
    ):
        quadrant = rng.integers(0, 4, len(digit))
        canvas = place(inks[rows[view]], quadrant_corners(quadrant, size), size)
        backgrounds = crops(
            textures[view], random_corners(textures[view], size, len(digit), rng), size
        )
        x[modality.name], quadrants[modality.name] = paint(backgrounds, canvas, how), quadrant
    return Split(
        x, modalities, shared_labels={"digit": digit}, private_labels={"quadrant": quadrants}
    )


SOURCE = Source(
    "digits-quadrant",
    "scikit-learn's digits in random quadrants, 3 views 3×16×16; needs no files",
    DigitsOptions,
    digits_quadrant,
)
