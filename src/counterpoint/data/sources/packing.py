"""A data set written as a folder of arrays, which is opened as memory maps: whatever it
was made from is read or decoded once and for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from counterpoint.data.dataset import Dataset
from counterpoint.data.sources.files import FolderWriter, new_folder, progress_bar
from counterpoint.data.sources.flat import IDS
from counterpoint.data.split import COVARIATES, Array, Split

BLOCK = 1 << 25
"""Most bytes of an array that are in memory at once, unless a row is larger."""


def pack(data: Dataset, out: str | Path, *, progress: bool = True) -> Path:
    """Write a data set as a folder of ``.npy`` files with a manifest of their
    checksums; :func:`load` opens it as memory maps.

    Values, presence, labels, names of rows and notes are as they were. Images that are
    decoded when they are asked for (:mod:`counterpoint.data.sources.image_folder`) are
    so block by block, and never in memory together.

    >>> from tempfile import TemporaryDirectory
    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> with TemporaryDirectory() as folder:
    ...     opened = cp.data.load(cp.data.pack(data, f"{folder}/digits", progress=False))
    ...     opened
    Dataset 'digits-quadrant': 1,100 train, 800 val, 1,988 test rows
    view0 3×16×16 laplace
    view1 3×16×16 laplace
    labels: digit; quadrant of view0, view1
    note on digits: scikit-learn's 8×8 digits (UCI optical recognition of handwritten digits)
    note on backgrounds: synthesised textures

    Args:
        out: the folder to make.
        progress: show a progress bar.

    Returns:
        The folder.

    Raises:
        ValueError: an image that can't be read.
        OSError: a full disk, or a folder that holds something. Nothing half-written
            remains.
    """
    with new_folder(Path(out)) as folder, progress_bar(progress) as bar:
        task = bar.add_task(
            f"packing {data.name}",
            total=sum(len(split) * len(split.x) for split in data.splits().values()),
        )
        writer = FolderWriter(folder)
        for part, split in data.splits().items():
            carry_over(writer, part, split, made=lambda rows: bar.advance(task, rows))
        writer.manifest(data.name, {"data": data.name}, data.modalities, data.notes)
    return Path(out)


def carry_over(
    writer: FolderWriter,
    part: str,
    split: Split,
    *,
    but: Collection[str] = (),
    made: Callable[[int], None] = lambda rows: None,
) -> None:
    """Write a split as it is, except the values of the modalities in ``but``. ``made``
    is called with the number of rows of values that were written."""

    def blocks(values: Array, told: Callable[[int], None]) -> Iterator[Array]:
        row_bytes = values.dtype.itemsize * math.prod(values.shape[1:])
        rows = max(1, BLOCK // max(1, row_bytes))
        for start in range(0, len(values), rows):
            yield np.asarray(values[start : start + rows])
            told(len(values[start : start + rows]))

    private = {}
    for label, by in split.private_labels.items():
        for name, values in by.items():
            private[f"label/{label}/{name}"] = values
    shared = {f"label/{label}": values for label, values in split.shared_labels.items()}
    present = {f"present/{name}": mask for name, mask in split.present.items() if not mask.all()}
    for name, values in split.x.items():
        if name not in but:
            writer.array(f"{part}/{name}", blocks(values, made), values.shape, values.dtype)
    covariates = {COVARIATES: split.covariates} if split.covariate_names else {}
    ids = {IDS: split.ids} if split.ids is not None else {}
    for key, values in {**present, **shared, **private, **covariates, **ids}.items():
        writer.array(f"{part}/{key}", [values], values.shape, values.dtype)
