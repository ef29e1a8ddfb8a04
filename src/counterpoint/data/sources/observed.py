"""What is known of observations beside their assays, and how they are divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from counterpoint.data.division import Fractions, check_fractions, shuffled
from counterpoint.data.sources.assays import Assay
from counterpoint.data.split import Array


@dataclass(frozen=True)
class Observed:
    """What is known of the observations beside their assays.

    Attributes:
        ids: (N,) text.
        labels: by label, (N,) numbers of classes, negative where unknown.
        private_labels: by label, then by modality.
        covariates: by name, (N,) text, integers or floats: what decoders are told;
            ``""`` and NaN where unknown.
        classes: by label (LABEL, or LABEL/MODALITY), what its numbers stand for.
    """

    ids: Array
    labels: dict[str, Array] = field(default_factory=dict)
    private_labels: dict[str, dict[str, Array]] = field(default_factory=dict)
    covariates: dict[str, Array] = field(default_factory=dict)
    classes: dict[str, Sequence[str]] = field(default_factory=dict)

    def take(self, rows: Array) -> Observed:
        """Return what is known of some of the observations."""
        return replace(
            self,
            ids=self.ids[rows],
            labels={k: v[rows] for k, v in self.labels.items()},
            private_labels={
                k: {m: v[rows] for m, v in by.items()} for k, by in self.private_labels.items()
            },
            covariates={k: v[rows] for k, v in self.covariates.items()},
        )


def divided(fractions: Fractions, assays: Sequence[Assay], observed: Observed, seed: int) -> Array:
    """Divide observations into "train", "val" and "test" at random, (N,) text: alike in
    every class of the first label and every set of modalities.

    Raises:
        ValueError: fractions that are none.
    """
    check_fractions(fractions)
    order = shuffled(strata(observed, assays), seed)
    part = np.full(len(order), "train", "U5")
    for name, share in (("test", fractions[2]), ("val", fractions[1] / (1 - fractions[2]))):
        free = order[part[order] == "train"]
        part[free[np.diff(np.floor(np.arange(len(free) + 1) * share + 0.5)) > 0]] = (
            name  # evenly spaced
        )
    return part


def strata(observed: Observed, assays: Sequence[Assay]) -> Array:
    """Number observations, (N,): those of the same class of the first label that have
    the same modalities share a number."""
    first = next(iter(observed.labels.values()), np.zeros(len(observed.ids), int))
    return np.unique(
        np.stack([first, *(a.present for a in assays)], 1), axis=0, return_inverse=True
    )[1].reshape(-1)
