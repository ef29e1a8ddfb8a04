"""Which named features of a vector, such as genes, the other modalities predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.core.modality import Modality
from counterpoint.nn.modules import readable

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.methods import Method

MIN_CORRELATION_ROWS = 10


@dataclass(frozen=True)
class Predicted:
    """How well the features of one modality are predicted from the others.

    Attributes:
        modality: the name of the modality.
        rows: the number of rows.
        median: the correlation of the median feature.
        best: names and correlations of the best features, in order.
    """

    modality: str
    rows: int
    median: float
    best: list[tuple[str, float]]


def predicted(
    method: Method, split: Split, *, best: int = 12, most: int = 1000, seed: int = 0
) -> list[Predicted]:
    """Correlate the measured features with those predicted from the rest of the row.

    Pearson correlations over rows, of every modality whose features have names. Counts
    are compared as logarithms of their shares. Constant features are left out.

    Args:
        method: the method.
        split: the rows.
        best: the number of features to name.
        most: the most rows, drawn at random.
        seed: chooses the rows.
    """
    found = []
    for m in (m for m in method.modalities if m.features and len(method.modalities) > 1):
        others = [name for name in split.present if name != m.name]
        rows = np.flatnonzero(
            split.present[m.name] & np.any([split.present[name] for name in others], axis=0)
        )
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
        if len(rows) < MIN_CORRELATION_ROWS:
            continue
        r = np.nan_to_num(_correlations(*_pairs(method, split, m, others, rows, seed)), nan=-np.inf)
        order = np.argsort(-r, kind="stable")
        order = order[np.isfinite(r[order])]
        if len(order):
            named = [(m.features[i], float(r[i])) for i in order[:best]]
            found.append(Predicted(m.name, len(rows), float(np.median(r[order])), named))
    return found


def _pairs(
    method: Method, split: Split, modality: Modality, others: list[str], rows: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The measured and the predicted values, (N, d) each."""
    generator = torch.Generator().manual_seed(seed)
    measured = []
    made = []
    for start in range(0, len(rows), 256):
        batch = split.batch(rows[start : start + 256], device=method.device)
        output = method.reconstruct(batch.only(others), generator=generator)[modality.name]
        measured.append(readable(modality, batch.x[modality.name]).cpu().numpy())
        made.append(readable(modality, output).cpu().numpy())
    return np.concatenate(measured), np.concatenate(made)


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The correlations of columns, (d,); NaN for constant ones."""
    a, b = (x - x.mean(0, dtype=np.float64) for x in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.sqrt((a**2).sum(0) * (b**2).sum(0))
        return np.asarray((a * b).sum(0) / norms)
