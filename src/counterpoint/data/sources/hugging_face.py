"""A data set of Hugging Face's ``datasets`` in memory, or its splits.

| feature | read as |
|---|---|
| ``ClassLabel`` | a shared label |
| ``Image`` | an image; grey and RGB as they are, others as RGB |
| numbers, lists and arrays of one shape | a vector, or an image if it has three axes |
| text | only as a label or covariate, if named so |

None is absent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from counterpoint.data.ambiguity import ReadOptions
from counterpoint.data.dataset import Dataset
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.columns import SHARED, each, opened
from counterpoint.data.sources.torch_rows import column


def is_hugging_face(source: object) -> bool:
    """Whether it is a ``datasets.Dataset``, or a mapping of such."""
    return each(source, lambda one: hasattr(one, "features") and hasattr(one, "column_names"))


def arrays_of(source: Any) -> dict[str, Any]:
    """Arrays by name; classes as ``label/NAME``."""
    arrays: dict[str, Any] = {}
    plain = source.with_format(None)
    for name, feature in source.features.items():
        kind = type(feature).__name__
        values = list(plain[name])
        if kind == "Image":
            values = [None if value is None else _pixels(value) for value in values]
        if kind == "ClassLabel":
            # Hugging Face writes −1 for a class that is not known.
            values = [None if value in (None, -1) else value for value in values]
            name = f"label/{name}"
        arrays |= column(name, values)
    return arrays


def _pixels(image: Any) -> np.ndarray:
    """(C, H, W) of a picture of Pillow."""
    pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def open_hugging_face(request: Request, options: ReadOptions) -> Dataset:
    """Open a data set of Hugging Face."""
    return opened("hugging-face", request, options, arrays_of)


SOURCE = Source(
    "hugging-face",
    "a data set of Hugging Face's datasets",
    ReadOptions,
    open_hugging_face,
    SHARED,
    infers=True,
    holds=is_hugging_face,
)
