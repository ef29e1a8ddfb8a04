"""Probes: how well a linear classifier reads each label from each latent.

Logistic regression (L-BFGS, C = 1, standardised features) is fitted on posterior means
of the train split and scored on held-out rows. There is a probe for every modality,
latent (z, w, and both) and label, and one of z given all that a row has. Leakage is the
accuracy on a private label from z, or on a shared label from w, compared with chance.

If few rows are held out, probes can be cross-validated instead. The rows of the train
split and the held-out rows are pooled and dealt out to folds, stratified by class. Each
fold is scored by a probe of the other folds. The method has seen the train rows, though
never their labels.

The cross-entropy of a probe also bounds mutual information from below,
I(y; z) ≥ H(y) − CE (Barber and Agakov, "The IM algorithm", 2003).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.data.division import folds as dealt
from counterpoint.metrics.chance import majority_classes, smallest_classes
from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.intervals import Array
from counterpoint.metrics.means import Means, classes_of, means_given_all
from counterpoint.metrics.sampling import chosen, seed_of
from counterpoint.metrics.score import FEW_ROWS, Metric, Way
from counterpoint.metrics.scores import Chance, Scores

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.methods import Method

LATENTS = ("z", "w", "zw")

MAX_ROWS_GIVEN_ALL = 2000
"""Most rows on either side of the probes of z given everything, which chains may have
to draw."""

_metric = partial(Metric, group="probe")


@dataclass(frozen=True)
class Probe:
    """The results of a fitted probe on held-out rows.

    Attributes:
        hits: (N,) bool, whether each row is classified right.
        information: H(y) − cross-entropy, in nats; a lower bound on I(y; latent). It is
            negative if the probe misleads.
        converged: whether L-BFGS met its tolerance.

    >>> Probe(np.array([True, False]), information=0.2, converged=True).information
    0.2
    """

    hits: Array
    information: float
    converged: bool


def probe(
    train: Array, train_labels: Array, test: Array, test_labels: Array, *, max_iter: int = 500
) -> Probe:
    """Fit on ``train`` (N, d) and score on ``test`` (N', d). Labels are integers.

    >>> from counterpoint.metrics import probe
    >>> x, y = np.array([[-1.0], [1.0], [-2.0], [2.0]]), np.array([0, 1, 0, 1])
    >>> probe(x, y, x, y).hits
    array([ True,  True,  True,  True])

    Raises:
        ValueError: ``train_labels`` has a single class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(train_labels)) < 2:
        raise ValueError(
            "the probe's train labels have a single class; a classifier needs two or more: "
            "leave the label out"
        )
    # float64: L-BFGS stops early in the single precision that latents come in
    mean = train.mean(0, dtype=np.float64)
    std = train.std(0, dtype=np.float64)
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
    # A class unseen in training costs 27.6 nats.
    likelihood = np.where(seen, probabilities[np.arange(len(column)), column], 0.0).clip(1e-12)
    return Probe(
        hits=predicted == test_labels,
        information=float(entropy(test_labels) + np.log(likelihood).mean()),
        converged=not any(issubclass(w.category, ConvergenceWarning) for w in caught),
    )


def cross_validated(x: Array, labels: Array, folds: int, *, seed: int = 0) -> Probe:
    """Score every row of ``x`` (N, d) by a probe fitted on the folds without it.

    Folds are stratified by class.

    Raises:
        ValueError: fewer rows than folds, or all but one class lie in one fold.
    """
    if len(x) < folds:
        raise ValueError(f"{len(x)} rows do not fill {folds} folds; take fewer folds")
    fold = dealt(np.unique(labels, return_inverse=True)[1], folds, seed)
    hits = np.zeros(len(x), bool)
    loss = 0.0
    converged = True
    for held in (fold == number for number in range(folds)):
        found = probe(x[~held], labels[~held], x[held], labels[held])
        hits[held] = found.hits
        loss += held.mean() * (entropy(labels[held]) - found.information)
        converged &= found.converged
    return Probe(hits, float(entropy(labels) - loss), converged)


def entropy(labels: Array) -> float:
    """Compute the entropy of the labels' empirical distribution, in nats.

    >>> round(entropy(np.array([0, 1])), 3)
    0.693
    """
    frequency = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(frequency * np.log(frequency)).sum())


@dataclass(frozen=True)
class ProbeSettings:
    """How probes are fitted.

    >>> ProbeSettings(folds=5).seed
    0

    Args:
        folds: cross-validate in so many folds; None fits on the train split and scores
            on the held-out rows.
        seed: of the folds.
    """

    folds: int | None = None
    seed: int = 0

    def fitted(
        self, train: tuple[Array, Array, Array], held: tuple[Array, Array, Array]
    ) -> tuple[Probe, Array]:
        """Fit and score a probe.

        Args:
            train, held: latents (N, d), labels (N,) and which rows count (N,) bool.

        Returns:
            The probe, and which rows it scores: those of ``held``, or with folds those
            of both.
        """
        (x, y, fit), (x_held, y_held, scored) = train, held
        if self.folds is None:
            return probe(x[fit], y[fit], x_held[scored], y_held[scored]), scored
        all_x = np.concatenate([x[fit], x_held[scored]])
        all_y = np.concatenate([y[fit], y_held[scored]])
        both = all_x, all_y
        result = cross_validated(*both, self.folds, seed=self.seed)
        return result, np.concatenate([fit, scored])


def score_probes(
    train: Means,
    test: Means,
    *,
    settings: ProbeSettings | None = None,
    chances: dict[str, Chance] | None = None,
) -> Scores:
    """Score ``probe/<latent>/<label>`` and ``mi/<latent>/<label>`` (nats).

    Both are means over modalities, and each modality's has its name at the end. Rows
    whose modality is absent, or whose label is unknown, do not count. ``mi`` is left out
    below 50 rows.

    >>> from counterpoint.metrics import Means, score_probes
    >>> x, sign = np.array([[-1.0], [1.0]] * 30), np.array([0, 1] * 30)
    >>> there = {"x": np.ones(60, bool)}
    >>> means = Means({"x": x}, {"x": 2 * x}, there, {"x": {"sign": sign}})
    >>> score_probes(means, means).metrics["probe/z/sign"]
    1.0

    Args:
        settings: how probes are fitted.
        chances: by label, the score of guessing.

    Raises:
        ValueError: a label with one class.
    """
    scores = Scores()
    chances = chances or {}
    unconverged = []
    for label in dict.fromkeys(key for name in train.shared for key in train.labels[name]):
        for latent in LATENTS:
            probes = dict(_probes(train, test, label, latent, settings or ProbeSettings()))
            if probes:
                _add_probes(scores, probes, label, latent, chances.get(label))
            unconverged += [
                f"{latent}/{label}/{way}" for way, (p, _) in probes.items() if not p.converged
            ]
    if not scores.records:
        scores.left_out["probe"] = "the data set has no labels"
    if unconverged:
        scores.extra["probes_unconverged"] = unconverged
    return scores


def _probes(
    train: Means, test: Means, label: str, latent: str, settings: ProbeSettings
) -> Iterator[tuple[Way, tuple[Probe, Array]]]:
    """The probe of each modality, and the rows that it scores."""
    for name in (name for name in train.shared if name in test.shared):
        labelled = label in train.labels[name] and label in test.labels[name]
        if not labelled or ("w" in latent and name not in train.private):
            continue
        fit, held = (
            means.present[name] & (means.labels[name][label] >= 0) for means in (train, test)
        )
        if not held.any():
            continue
        classes_of(train.labels[name][label][fit], label, name)
        sides = [
            (means.latent(latent, name), means.labels[name][label], rows)
            for means, rows in ((train, fit), (test, held))
        ]
        yield Way((name,)), settings.fitted(sides[0], sides[1])


def _add_probes(
    scores: Scores,
    probes: dict[Way, tuple[Probe, Array]],
    label: str,
    latent: str,
    chance: Chance | None,
) -> None:
    hits: dict[Way, Array] = {}
    information: dict[Way, float] = {}
    rows = {way: int(scored.sum()) for way, (_, scored) in probes.items()}
    bound = _metric(kind="mi", latent=latent, label=label)
    for way, (result, scored) in probes.items():
        hits[way] = np.full(len(scored), np.nan)
        hits[way][scored] = result.hits
        if rows[way] < FEW_ROWS:
            reason = f"{rows[way]} rows, {FEW_ROWS} are needed"
            scores.leave_out(bound.along(way), reason, too_few=True)
        else:
            information[way] = result.information
    scores.add_accuracy(_metric(kind="probe", latent=latent, label=label), hits, chance=chance)
    scores.add_mean(bound, information, rows=rows)


def score_probes_given_all(
    method: Method,
    train: Split,
    test: Split,
    *,
    batch_size: int = 256,
    refine: int | None = None,
    settings: ProbeSettings | None = None,
    chances: dict[str, Chance] | None = None,
) -> Scores:
    """Score ``probe/all/<label>``: shared labels read from z given all that a row has.

    >>> from counterpoint.metrics import score_probes_given_all
    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split = data.test.take(range(8))
    >>> scores = score_probes_given_all(method, data.train.take(range(64)), split)
    >>> [*scores.metrics]
    ['probe/all/digit']

    Args:
        refine: refine posteriors by so many steps.
        settings: how probes are fitted.
        chances: by label, the score of guessing.

    Raises:
        ValueError: a label with one class.
    """
    scores = Scores()
    settings = settings or ProbeSettings()
    labels = [
        label
        for label, values in test.shared_labels.items()
        if label in train.shared_labels and (values >= 0).any()
    ]
    if not labels:
        return scores
    latents = [
        means_given_all(method, split, batch_size=batch_size, refine=refine)
        for split in (train, test)
    ]
    for label in labels:
        values = [split.shared_labels[label] for split in (train, test)]
        classes_of(values[0], label, "z")
        sides = [(z, y, y >= 0) for z, y in zip(latents, values, strict=True)]
        result, scored = settings.fitted(sides[0], sides[1])
        hits = np.full(len(scored), np.nan)
        hits[scored] = result.hits
        metric = _metric(kind="probe", setting="all", label=label)
        chance = (chances or {}).get(label)
        scores.add_accuracy(metric, {Way(): hits}, each=False, chance=chance)
    return scores


def _measure(context: Context) -> Scores:
    options = context.options
    seed = context.options.seed
    settings = ProbeSettings(options.folds, seed_of(seed, "folds"))
    scored = context.probed if options.folds is not None else context.probed[1:]
    pooled = context.probed if options.folds is not None else (context.held_out,)
    chances = majority_classes(*pooled)
    scores = score_probes(*context.means, settings=settings, chances=chances)
    rows_seed = seed_of(seed, "joint rows")  # the purpose keeps old figures repeatable
    few = [
        part.take(chosen(len(part), MAX_ROWS_GIVEN_ALL, rows_seed))
        for part in (context.data.train_split, context.held_out)
    ]
    scores.extend(
        score_probes_given_all(
            context.method,
            few[0],
            few[1],
            batch_size=options.batch_size,
            refine=options.refine,
            settings=settings,
            chances=chances,
        )
    )
    scores.mark_few(smallest_classes(*scored))
    return scores


GROUP = Group(
    "probe", ("probe", "mi"), _measure, default="always", complete=True, higher=("probe", "mi")
)
