"""``template``: what the rows are, in one sentence (Authors YEAR, URL).

Say where the files come from, how they are split, and which choices are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.source import Request, Source
from counterpoint.data.split import Split

_ROWS = {"train": 200, "val": 50, "test": 50}


@dataclass(frozen=True)
class TemplateOptions:
    """Options of ``template``.

    Args:
        noise: standard deviation of the noise.
    """

    noise: float = 0.1


def open_template(request: Request, options: TemplateOptions) -> Dataset:
    """Draw a number and two noisy copies of it. Label ``sign`` (2) is shared.

    Raises:
        ValueError: a negative ``noise``.
    """
    if options.noise < 0:
        raise ValueError(f"noise {options.noise} of template must be 0 or more")
    modalities = (Modality("left", (3,), "normal"), Modality("right", (2,), "normal"))
    splits = {}
    for number, (part, rows) in enumerate(_ROWS.items()):
        rng = np.random.default_rng((request.seed, number))  # every split has its own stream
        shared = rng.normal(size=(rows, 1))
        x = {}
        for modality in modalities:
            noise = options.noise * rng.normal(size=(rows, *modality.shape))
            x[modality.name] = (shared + noise).astype(np.float32)
        sign = (shared[:, 0] > 0).astype(np.int64)
        splits[part] = Split(x, modalities, shared_labels={"sign": sign})
    return Dataset(request.name, modalities, **splits, notes={"source": "drawn in memory"})


SOURCE = Source(
    "template",
    "a number and two noisy copies of it, 3 and 2 values; needs no files",
    TemplateOptions,
    open_template,
)
