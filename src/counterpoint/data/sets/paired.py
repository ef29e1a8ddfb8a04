"""MNIST paired by class with another set of digits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.sets.compose import pair_by_class
from counterpoint.data.sets.mnist import mnist
from counterpoint.data.source import Request
from counterpoint.data.split import Split


def paired_with_mnist(
    request: Request,
    other: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    modality: Modality,
    pairings: int,
    name: str,
    note: str,
) -> Dataset:
    """Pair each MNIST digit ``mnist`` with an image of the same class.

    Args:
        request: whose root holds MNIST, and whose seed fixes the pairs.
        other: by split, images (N, *shape) and classes (N,) of the other set.
        modality: of the other set.
        pairings: pairings of the training rows; validation and test have 1.
        name: of the data set.
        note: where its images come from.
    """
    digits = mnist(request.root)
    modalities = (Modality("mnist", (1, 28, 28), "laplace", 0.75), modality)
    splits = {}
    for i, part in enumerate(("train", "val", "test")):
        left, left_classes = digits[part]
        right, right_classes = other[part]
        rng = np.random.default_rng((request.seed, i))
        count = pairings if part == "train" else 1
        digit, rows = pair_by_class([left_classes, right_classes], count, rng)
        values = {"mnist": left[rows[0], None], modality.name: right[rows[1]]}
        splits[part] = Split(values, modalities, shared_labels={"digit": digit})
    parts = splits["train"], splits["val"], splits["test"]
    return Dataset(name, modalities, *parts, {"source": note})
