"""``mnist-svhn``: MNIST and SVHN (Netzer et al. 2011) paired by class, as Shi et al.
2019 (https://arxiv.org/abs/1911.03393) do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.sets.compose import hold_out
from counterpoint.data.sets.paired import paired_with_mnist
from counterpoint.data.sets.words import with_words
from counterpoint.data.source import Request, Source

_VAL_PER_CLASS = 400


@dataclass(frozen=True)
class SvhnOptions:
    """Options of ``mnist-svhn`` and ``mnist-svhn-text``.

    Args:
        pairings: pairings of the training digits (validation and test have 1).
    """

    pairings: int = 4


def mnist_svhn(request: Request, options: SvhnOptions) -> Dataset:
    """Read pairs of an MNIST digit ``mnist`` (1×28×28) and a house number's digit
    ``svhn`` (3×32×32) of the same class; shared label ``digit``.

    The root holds ``mnist/``, ``svhn/train_32x32.mat`` and ``svhn/test_32x32.mat`` (or
    the two in itself), as published. Each pairing uses every image of the larger set of
    a class once. The splits share no image: MNIST 55,000 / 5,000 / 10,000; SVHN's train
    set less 400 per class / those 400 per class / its test set.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is corrupt or laid out otherwise.
    """
    other = _svhn(request.root)
    return paired_with_mnist(
        request,
        other,
        modality=Modality("svhn", (3, 32, 32), "laplace", 0.75),
        pairings=options.pairings,
        name="mnist-svhn",
        note="MNIST and SVHN, paired by class",
    )


def _svhn(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images uint8 (N, 3, 32, 32) and classes int64 (N,) of each split; which images
    validate never changes."""
    read = {part: _read(root, f"{part}_32x32.mat") for part in ("train", "test")}
    images, labels = read["train"]
    rest, held_out = hold_out(labels, _VAL_PER_CLASS, np.random.default_rng(2011))
    return {
        "train": (images[rest], labels[rest]),
        "val": (images[held_out], labels[held_out]),
        "test": read["test"],
    }


def _read(root: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One published file: X (32, 32, 3, N) uint8, and y (N, 1) in 1..10, where 10 is
    the digit 0."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = next((p for p in (root / "svhn" / name, root / name) if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{name} is neither in {root / 'svhn'} nor in {root}; fetch it from http://ufldl.stanford.edu/housenumbers"
        )
    try:
        content = loadmat(path, variable_names=("X", "y"))
        images = np.asarray(content["X"])
        labels = np.asarray(content["y"]).reshape(-1).astype(np.int64)
    except (MatReadError, OSError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{path} is corrupt or lacks X and y ({error}); fetch it again") from error
    if images.ndim != 4 or images.shape != (32, 32, 3, len(labels)) or images.dtype != np.uint8:
        raise ValueError(
            f"{path}: X has shape {images.shape} and dtype {images.dtype}, expected uint8 (32, 32, 3, {len(labels)})"
        )
    if labels.min() < 1 or labels.max() > 10:
        raise ValueError(f"{path}: y spans [{labels.min()}, {labels.max()}], expected 1 to 10")
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels % 10


def mnist_svhn_text(request: Request, options: SvhnOptions) -> Dataset:
    """Read the same pairs, and the word of the digit
    (:mod:`counterpoint.data.sets.words`)."""
    return with_words(mnist_svhn(request, options), request.seed)


SOURCES = (
    Source(
        "mnist-svhn",
        "MNIST and SVHN paired by class, 1×28×28 and 3×32×32; reads their files",
        SvhnOptions,
        mnist_svhn,
    ),
    Source(
        "mnist-svhn-text",
        "the same and the digit's word, 8 characters; reads the same files",
        SvhnOptions,
        mnist_svhn_text,
    ),
)
