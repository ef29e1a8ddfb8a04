"""``digits-usps``: MNIST and USPS (Hull 1994) paired by class, two grey modalities of
different size."""

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

_VAL_PER_CLASS = 70  # of USPS' 7,291 training digits; its own test set stays the test


@dataclass(frozen=True)
class UspsOptions:
    """Options of ``digits-usps`` and ``digits-usps-text``.

    Args:
        pairings: pairings of the training digits (validation and test have 1).
    """

    pairings: int = 1


def digits_usps(request: Request, options: UspsOptions) -> Dataset:
    """Read pairs of an MNIST digit ``mnist`` (1×28×28) and a USPS digit ``usps``
    (1×16×16) of the same class; shared label ``digit``.

    The root holds ``mnist/`` and ``usps/usps.h5`` (or ``usps.h5``), with ``train/data
    (N, 256)`` in [0, 1], ``train/target``, and ``test/...``. Each pairing uses every
    MNIST digit once and goes round USPS, which is smaller, several times, in a new
    order each time. The splits share no digit: MNIST 55,000 / 5,000 / 10,000; USPS
    train less 70 per class / those 70 per class / its test set.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is corrupt or laid out otherwise.
    """
    other = {part: (x[:, None], y) for part, (x, y) in _usps(request.root).items()}
    return paired_with_mnist(
        request,
        other,
        modality=Modality("usps", (1, 16, 16), "laplace", 0.75),
        pairings=options.pairings,
        name="digits-usps",
        note="MNIST and USPS, paired by class",
    )


def _usps(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images uint8 (N, 16, 16) and classes int64 (N,) of each split; which digits
    validate never changes."""
    import h5py

    path = next((p for p in (root / "usps" / "usps.h5", root / "usps.h5") if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"usps.h5 is neither in {root / 'usps'} nor in {root}; put it there"
        )
    try:
        with h5py.File(path, "r") as file:
            read = {
                part: (file[f"{part}/data"][...], file[f"{part}/target"][...].astype(np.int64))
                for part in ("train", "test")
            }
    except (OSError, KeyError) as error:
        raise ValueError(
            f"{path} is corrupt or lacks train/data, train/target, test/data, test/target ({error}); fetch it again"
        ) from error
    for part, (data, labels) in read.items():
        if (
            data.ndim != 2
            or data.shape != (len(labels), 256)
            or not (np.isfinite(data).all() and data.min() >= 0 and data.max() <= 1)
        ):
            raise ValueError(
                f"{path}: {part}/data has shape {data.shape}, expected ({len(labels)}, 256) with values in [0, 1]"
            )
    pixels = {
        part: (np.rint(data * 255).astype(np.uint8).reshape(-1, 16, 16), labels)
        for part, (data, labels) in read.items()
    }
    images, labels = pixels["train"]
    rest, held_out = hold_out(labels, _VAL_PER_CLASS, np.random.default_rng(1994))
    return {
        "train": (images[rest], labels[rest]),
        "val": (images[held_out], labels[held_out]),
        "test": pixels["test"],
    }


def digits_usps_text(request: Request, options: UspsOptions) -> Dataset:
    """Read the same pairs, and the word of the digit
    (:mod:`counterpoint.data.sets.words`)."""
    return with_words(digits_usps(request, options), request.seed)


SOURCES = (
    Source(
        "digits-usps",
        "MNIST and USPS paired by class, 1×28×28 and 1×16×16; reads their files",
        UspsOptions,
        digits_usps,
    ),
    Source(
        "digits-usps-text",
        "the same and the digit's word, 8 characters; reads the same files",
        UspsOptions,
        digits_usps_text,
    ),
)
