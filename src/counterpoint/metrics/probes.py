"""Probes: how well a linear classifier reads each label from each latent.

Logistic regression (L-BFGS, C = 1, standardised features) is fitted on posterior means
of the train split and scored on held-out rows, for every modality, latent (z, w, and
both) and label; and on z given all that a row has. Leakage is what z tells of a private
label and w of a shared one, against chance. Where few rows are held out, probes may be
cross-validated instead: the rows of the train split and the held-out ones together are
dealt out to folds, alike in every class, and each is scored by a probe of the other
folds. The method has seen the train rows, though never their labels. The probe's
cross-entropy also bounds mutual information from below, I(y; z) ≥ H(y) − CE (Barber and
Agakov, "The IM algorithm", 2003).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.data.division import folds as dealt
from counterpoint.metrics.means import Means, classes_of, joint_means, labels_of
from counterpoint.metrics.score import FEW_ROWS, Array, Scores

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.methods import Method


@dataclass(frozen=True)
class Probe:
    """A fitted probe's results on held-out rows.

    Attributes:
        hits: (N,) bool, whether each row is classified right.
        information: H(y) − cross-entropy, in nats; a lower bound on I(y; latent),
            negative when the probe misleads.
        converged: whether L-BFGS met its tolerance.
    """

    hits: Array
    information: float
    converged: bool


def probe(
    train: Array, train_labels: Array, test: Array, test_labels: Array, *, max_iter: int = 500
) -> Probe:
    """Fit on ``train`` (N, d) and score on ``test`` (N', d); labels are integers.

    Raises:
        ValueError: ``train_labels`` has a single class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(train_labels)) < 2:
        raise ValueError(
            "the probe's train labels have a single class; a classifier needs two or more: leave the label out"
        )
    # float64: L-BFGS stops early in the single precision that latents come in
    mean, std = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    std = np.where(std > 0, std, 1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LogisticRegression(C=1.0, solver="lbfgs", max_iter=max_iter).fit(
            (train - mean) / std, train_labels
        )
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


def cross_validated(x: Array, labels: Array, folds: int, *, seed: int = 0) -> Probe:
    """Every row of ``x`` (N, d) scored by a probe that is fitted on the folds without
    it; folds are alike in every class.

    Raises:
        ValueError: fewer rows than folds, or labels of which all but one class lie in
            one fold.
    """
    if len(x) < folds:
        raise ValueError(f"{len(x)} rows do not fill {folds} folds; take fewer folds")
    fold = dealt(np.unique(labels, return_inverse=True)[1], folds, seed)
    hits, loss, converged = np.zeros(len(x), bool), 0.0, True
    for held in (fold == number for number in range(folds)):
        found = probe(x[~held], labels[~held], x[held], labels[held])
        hits[held] = found.hits
        loss += held.mean() * (entropy(labels[held]) - found.information)
        converged &= found.converged
    return Probe(hits, float(entropy(labels) - loss), converged)


def entropy(labels: Array) -> float:
    """Entropy of the labels' empirical distribution, in nats."""
    frequency = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(frequency * np.log(frequency)).sum())


def score_probes(train: Means, test: Means, *, folds: int | None = None, seed: int = 0) -> Scores:
    """``probe/<latent>/<label>`` and ``mi/<latent>/<label>`` (nats), means over
    modalities, with each modality's under ``.../<modality>``.

    Rows whose modality is absent, or whose label is unknown, are left out, and ``mi``
    below 50 rows.

    Args:
        folds: cross-validate over the rows of both in so many folds, instead of fitting
            on ``train`` and scoring on ``test``.
        seed: of the folds.

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
            scored: dict[str, int] = {}
            for name in names:
                if (
                    label not in train.labels[name]
                    or label not in test.labels[name]
                    or ("w" in kind and name not in train.private)
                ):
                    continue
                fit, held = (
                    means.present[name] & (means.labels[name][label] >= 0)
                    for means in (train, test)
                )
                if not held.any():
                    continue
                x, y = train.latent(kind, name)[fit], train.labels[name][label][fit]
                x_held, y_held = test.latent(kind, name)[held], test.labels[name][label][held]
                classes_of(y, label, name)
                if folds is None:
                    found, rows = probe(x, y, x_held, y_held), held
                else:
                    found = cross_validated(
                        np.concatenate([x, x_held]), np.concatenate([y, y_held]), folds, seed=seed
                    )
                    rows = np.concatenate([fit, held])
                hits[name] = np.full(len(rows), np.nan)
                hits[name][rows] = found.hits
                scored[name] = int(rows.sum())
                if scored[name] < FEW_ROWS:
                    scores.left_out[f"mi/{kind}/{label}/{name}"] = (
                        f"{scored[name]} rows, {FEW_ROWS} are needed"
                    )
                else:
                    information[name] = found.information
                if not found.converged:
                    unconverged.append(f"{kind}/{label}/{name}")
            if hits:
                scores.add_accuracy(f"probe/{kind}/{label}", hits)
                scores.add_mean(f"mi/{kind}/{label}", information, scored)
    if not scores.metrics:
        scores.left_out["probe"] = "the data set has no labels"
    if unconverged:
        scores.extra["probes_unconverged"] = unconverged
    return scores


def score_joint_probes(
    method: Method,
    train: Split,
    test: Split,
    *,
    batch_size: int = 256,
    refine: int | None = None,
    folds: int | None = None,
    seed: int = 0,
) -> Scores:
    """``probe/joint/<label>``: shared labels read from z given all that a row has,
    whatever that is; by ``folds`` as in :func:`score_probes`.

    Raises:
        ValueError: a label with one class.
    """
    scores = Scores()
    labels = [
        label
        for label, values in test.shared_labels.items()
        if label in train.shared_labels and (values >= 0).any()
    ]
    if not labels:
        return scores
    latents = [
        joint_means(method, split, batch_size=batch_size, refine=refine) for split in (train, test)
    ]
    for label in labels:
        fit, held = (split.shared_labels[label] for split in (train, test))
        classes_of(fit, label, "z")
        if folds is None:
            hits = np.full(len(held), np.nan)
            hits[held >= 0] = probe(
                latents[0][fit >= 0], fit[fit >= 0], latents[1][held >= 0], held[held >= 0]
            ).hits
        else:
            z, y = np.concatenate(latents), np.concatenate([fit, held])
            hits = np.full(len(y), np.nan)
            hits[y >= 0] = cross_validated(z[y >= 0], y[y >= 0], folds, seed=seed).hits
        scores.add_accuracy(f"probe/joint/{label}", {"all": hits}, each=False)
    return scores


def score_chance(*splits: Split, name: str = "chance") -> Scores:
    """``chance/<label>``: the majority class's frequency, mean over modalities, with
    each modality's under ``chance/<label>/<modality>``; of the rows of all splits
    together, and under another name where one is given."""
    scores = Scores()
    for label, by in _counts(splits).items():
        scores.add_mean(
            f"{name}/{label}",
            {modality: float(counts.max() / counts.sum()) for modality, counts in by.items()},
        )
    return scores


def smallest_classes(*splits: Split) -> dict[str, int]:
    """By label, how many rows its smallest class has in any modality."""
    return {
        label: int(min(counts.min() for counts in by.values()))
        for label, by in _counts(splits).items()
    }


def _counts(splits: tuple[Split, ...]) -> dict[str, dict[str, Array]]:
    """By label and modality, how many rows each class has."""
    known: dict[str, dict[str, list[Array]]] = {}
    for split in splits:
        for modality, present in split.present.items():
            for label, values in labels_of(split, modality).items():
                known.setdefault(label, {}).setdefault(modality, []).append(
                    values[present & (values >= 0)]
                )
    counts = {
        label: {
            modality: np.unique(np.concatenate(parts), return_counts=True)[1]
            for modality, parts in by.items()
        }
        for label, by in known.items()
    }
    return {
        label: by
        for label, each in counts.items()
        if (by := {name: n for name, n in each.items() if len(n)})
    }
