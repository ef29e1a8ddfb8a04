"""What a judge sees in values: labels, features, fine detail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.core.modality import Modality
from counterpoint.metrics.intervals import Array


@dataclass(frozen=True)
class Seen:
    """What a judge sees in n values of a modality.

    Attributes:
        rows: (n,) the held-out rows that the values belong to.
        labels: by label, (n,) the predicted class.
        features: (n, F).
        detail: (n,) fine detail of an image; NaN for other values and for images of
            unbounded values.
        f1: (n,) F1 against the real values of the rows; NaN if these are absent or not
            binary, or were not compared.
        points: by another modality, (n, F) the embedding by the judge that matches the
            two; empty if none was asked.

    >>> nothing = np.empty(2)
    >>> seen = Seen(np.array([0, 2]), {"digit": np.array([3, 5])}, nothing, nothing, nothing, {})
    >>> seen.hits("digit", np.array([3, 3, 4]))
    array([ 1., nan,  0.])
    """

    rows: Array
    labels: dict[str, Array]
    features: Array
    detail: Array
    f1: Array
    points: dict[str, Array]

    @staticmethod
    def cat(parts: list[Seen]) -> Seen:
        """Concatenate along the rows."""
        arrays = {}
        for key in ("rows", "features", "detail", "f1"):
            arrays[key] = np.concatenate([getattr(p, key) for p in parts])
        labels = _joined([part.labels for part in parts])
        points = _joined([part.points for part in parts])
        return Seen(labels=labels, points=points, **arrays)

    def hits(self, label: str, truth: Array) -> Array:
        """Compare the predicted class of each row with ``truth`` (N,).

        Returns:
            (N,): 1 where they agree, 0 where not, NaN for rows that were not seen or
            whose truth is unknown (negative).
        """
        found = np.full(len(truth), np.nan)
        here = truth[self.rows]
        found[self.rows] = np.where(here >= 0, self.labels[label] == here, np.nan)
        return found


def detail(values: Tensor, modality: Modality) -> Tensor:
    """Measure the energy of the highest frequencies of images (B, C, H, W).

    It is the mean square of the difference from a 3×3 box blur, without the border.

    Returns:
        (B,); NaN for values that are not images and for unbounded ones.
    """
    if not is_image(modality) or modality.unbounded:
        return torch.full((len(values),), torch.nan, device=values.device)
    blurred = F.avg_pool2d(values, 3, stride=1)
    return (values[..., 1:-1, 1:-1] - blurred).square().flatten(1).mean(1)


def decided(values: Tensor, modality: Modality) -> Tensor:
    """Turn probabilities (B, length, classes) of words into ids.

    Other values are returned unchanged.
    """
    return (
        values.argmax(-1)
        if modality.likelihood == "categorical" and values.dim() > 1 + len(modality.shape)
        else values
    )


def is_image(modality: Modality) -> bool:
    """Whether the values of a modality are images (channels, height, width)."""
    return len(modality.shape) == 3 and modality.likelihood != "categorical"


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The arrays of each name, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
