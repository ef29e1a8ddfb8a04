"""Probes: how well a linear classifier reads each label from each latent.

Logistic regression (L-BFGS, C = 1, standardised features) is fitted on posterior means of the train split and scored on held-out rows,
for every modality, latent (z, w, and both) and label; and on z given all that a row has. Leakage is what z tells of a private label and w of
a shared one, against chance.
The probe's cross-entropy also bounds mutual information from below, I(y; z) ≥ H(y) − CE (Barber and Agakov, "The IM algorithm", 2003).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .latents import Means, classes_of, joint_means, labels_of
from .scores import Array, Scores

if TYPE_CHECKING:
    from ..data import Split
    from ..methods import Method


@dataclass(frozen=True)
class Probe:
    """A fitted probe's results on held-out rows.

    Attributes:
        hits: (N,) bool, whether each row is classified right.
        information: H(y) − cross-entropy, in nats; a lower bound on I(y; latent), negative when the probe misleads.
        converged: whether L-BFGS met its tolerance.
    """

    hits: Array
    information: float
    converged: bool


def probe(train: Array, train_labels: Array, test: Array, test_labels: Array, *, max_iter: int = 500) -> Probe:
    """Fit on ``train`` (N, d) and score on ``test`` (N', d); labels are integers.

    Raises:
        ValueError: ``train_labels`` has a single class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(train_labels)) < 2:
        raise ValueError("the probe's train labels have a single class; a classifier needs two or more: leave the label out")
    # float64: L-BFGS stops early in the single precision that latents come in
    mean, std = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    std = np.where(std > 0, std, 1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LogisticRegression(C=1.0, solver="lbfgs", max_iter=max_iter).fit((train - mean) / std, train_labels)
    probabilities = model.predict_proba((test - mean) / std)
    predicted = model.classes_[probabilities.argmax(1)]
    column = np.searchsorted(model.classes_, test_labels).clip(max=len(model.classes_) - 1)
    seen = model.classes_[column] == test_labels
    likelihood = np.where(seen, probabilities[np.arange(len(column)), column], 0.0).clip(
        1e-12
    )  # a class unseen in training costs 27.6 nats
    return Probe(
        hits=predicted == test_labels,
        information=float(entropy(test_labels) + np.log(likelihood).mean()),
        converged=not any(issubclass(w.category, ConvergenceWarning) for w in caught),
    )


def entropy(labels: Array) -> float:
    """Entropy of the labels' empirical distribution, in nats."""
    frequency = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(frequency * np.log(frequency)).sum())


def score_probes(train: Means, test: Means) -> Scores:
    """``probe/<latent>/<label>`` and ``mi/<latent>/<label>`` (nats), means over modalities, with each modality's under ``.../<modality>``.

    Rows whose modality is absent, or whose label is unknown, are left out.

    Raises:
        ValueError: a label with one class.
    """
    scores = Scores()
    names = [name for name in train.shared if name in test.shared]
    unconverged = []
    for label in dict.fromkeys(label for name in names for label in train.labels[name]):
        for kind in ("z", "w", "zw"):
            hits: dict[str, Array] = {}
            information: dict[str, float] = {}
            for name in names:
                if label not in train.labels[name] or label not in test.labels[name] or ("w" in kind and name not in train.private):
                    continue
                fit, held = (means.present[name] & (means.labels[name][label] >= 0) for means in (train, test))
                if not held.any():
                    continue
                y = train.labels[name][label][fit]
                classes_of(y, label, name)
                found = probe(train.latent(kind, name)[fit], y, test.latent(kind, name)[held], test.labels[name][label][held])
                hits[name] = np.full(len(held), np.nan)
                hits[name][held] = found.hits
                information[name] = found.information
                if not found.converged:
                    unconverged.append(f"{kind}/{label}/{name}")
            if hits:
                scores.add_accuracy(f"probe/{kind}/{label}", hits)
                scores.add_mean(f"mi/{kind}/{label}", information)
    if not scores.metrics:
        scores.left_out["probe"] = "the data set has no labels"
    if unconverged:
        scores.extra["probes_unconverged"] = unconverged
    return scores


def score_joint_probes(method: Method, train: Split, test: Split, *, batch_size: int = 256, refine: int | None = None) -> Scores:
    """``probe/joint/<label>``: shared labels read from z given all that a row has, whatever that is.

    Raises:
        ValueError: a label with one class.
    """
    scores = Scores()
    labels = [label for label, values in test.shared_labels.items() if label in train.shared_labels and (values >= 0).any()]
    if not labels:
        return scores
    latents = [joint_means(method, split, batch_size=batch_size, refine=refine) for split in (train, test)]
    for label in labels:
        fit, held = (split.shared_labels[label] for split in (train, test))
        classes_of(fit, label, "z")
        hits = np.full(len(held), np.nan)
        hits[held >= 0] = probe(latents[0][fit >= 0], fit[fit >= 0], latents[1][held >= 0], held[held >= 0]).hits
        scores.add_accuracy(f"probe/joint/{label}", {"all": hits}, each=False)
    return scores


def score_chance(split: Split) -> Scores:
    """``chance/<label>``: the majority class's frequency, mean over modalities, with each modality's under ``chance/<label>/<modality>``."""
    scores = Scores()
    found: dict[str, dict[str, float]] = {}
    for name, present in split.present.items():
        for label, values in labels_of(split, name).items():
            known = values[present & (values >= 0)]
            if len(known):
                found.setdefault(label, {})[name] = float(np.unique(known, return_counts=True)[1].max() / len(known))
    for label, frequency in found.items():
        scores.add_mean(f"chance/{label}", frequency)
    return scores
