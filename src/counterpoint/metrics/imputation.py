"""Imputation: how close imputed values are to the hidden ones, and how often their
intervals contain them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from counterpoint.inference.imputation import VALUES, Imputation
from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.intervals import Array, accuracy
from counterpoint.metrics.means import device_of
from counterpoint.metrics.sampling import chosen, seed_of
from counterpoint.metrics.score import Metric
from counterpoint.metrics.scores import Scores
from counterpoint.nn.modules import readable

if TYPE_CHECKING:
    from counterpoint.core.batch import Batch
    from counterpoint.core.modality import Modality
    from counterpoint.data import Split
    from counterpoint.methods import Method

PREDICTIVE_DRAWS, INTERVAL_LEVEL = 100, 0.9
"""Draws of the predictive distribution, and the level of its intervals."""

HIDDEN_SHARE = 0.1
"""The share of entries that are hidden, of modalities with gaps."""

BASELINE_ROWS = 10_000
"""Most training rows of which the mean is the baseline."""

Figure = Literal["rmse", "nrmse", "correlation", "coverage90", "accuracy"]
FIGURES: tuple[Figure, ...] = ("rmse", "nrmse", "correlation", "coverage90", "accuracy")

_metric = partial(Metric, group="imputation")


def score_imputation(
    method: Method,
    train: Split,
    split: Split,
    *,
    images: bool = False,
    rows: int | None = 1000,
    seed: int = 0,
    refine: int | None = None,
) -> Scores:
    """Score imputation: each modality in turn is hidden and imputed given the others.

    Rows count that have the modality and another one. Of numbers:

    - ``impute/rmse/<m>``, with the error of the training mean as chance;
    - ``impute/nrmse/<m>``: the RMSE relative to that of the training mean;
    - ``impute/correlation/<m>``: of each feature over rows, mean over features;
    - ``impute/coverage90/<m>``: the share of values within their 90 % interval.

    Of words and binary values ``impute/accuracy/<m>``, with the accuracy of the most
    frequent value of each place as chance. All but RMSE have a mean over modalities.

    Of modalities with gaps there are also ``impute/entries/<the same>``: a tenth of the
    entries is hidden in rows of which everything else is given.

    Counts are imputed at the totals of their rows. Errors and correlations are of the
    values that networks read (:func:`counterpoint.nn.modules.readable`). An interval
    that ends at a count contains more than its level. For counts, coverage is therefore
    the share of random ranks among the draws, ties broken at random, that lie within it
    (Czado, Gneiting & Held 2009, https://doi.org/10.1111/j.1541-0420.2009.01191.x). It
    is also .9 if the model is right.

    >>> from counterpoint.metrics import score_imputation
    >>> import counterpoint as cp
    >>> x = np.random.default_rng(0).normal(size=(40, 1))
    >>> modalities = cp.Modality("x", (1,), "normal"), cp.Modality("y", (1,), "normal")
    >>> split = cp.data.Split({"x": x, "y": 2 * x}, modalities)
    >>> method = cp.MVAE.from_config(modalities, {"shared_dim": 1})
    >>> [*score_imputation(method, split, split).metrics][:3]
    ['impute/coverage90/x', 'impute/rmse/x', 'impute/nrmse/x']

    Args:
        method: the method.
        train: the rows of the baseline.
        split: the rows to impute.
        images: impute images too, which is slow.
        rows: most rows of each modality.
        seed: chooses rows, entries and draws.
        refine: refine posteriors by so many steps.
    """
    scores = Scores()
    means: dict[str, list[float]] = {}
    found = _all_hidden(method, train, split, scores, images, rows, seed, refine)
    for modality, hidden, prefix in found:
        baseline = _baseline(train, modality, seed)
        for figure, value in _scored(scores, hidden, modality, baseline, prefix).items():
            means.setdefault(f"{prefix}{figure}", []).append(value)
        scores.rest_on(len(hidden.truth))
    for kind, values in means.items():
        scores.add(_metric(kind=f"impute/{kind}"), float(np.mean(values)))
    scores.rest_on(min((s.n for s in scores.records if s.n is not None), default=0))
    return scores


def _all_hidden(
    method: Method,
    train: Split,
    split: Split,
    scores: Scores,
    images: bool,
    rows: int | None,
    seed: int,
    refine: int | None,
) -> Iterator[tuple[Modality, Hidden, str]]:
    """Each modality hidden as a whole, and entries of those with gaps."""
    for modality in split.modalities:
        name = modality.name
        present = split.present[modality.name]
        others = [m.name for m in split.modalities if m.name != name]
        usable = np.flatnonzero(
            present & np.logical_or.reduce([split.present[other] for other in others])
        )
        left_out = _metric(kind="impute", target=name)
        if len(modality.shape) == 3 and not images:
            reason = "images take long, and are imputed where the group is asked for"
            scores.leave_out(left_out, reason)
        elif not len(usable) or not train.present[name].any():
            scores.leave_out(left_out, "no row has it and another modality")
        else:
            kept = usable[chosen(len(usable), rows, seed_of(seed, f"impute/{name}"))]
            yield modality, _hidden(method, split, name, others, kept, seed, refine), ""
        if modality.gaps and present.any() and train.present[name].any():
            whole = np.flatnonzero(present)
            kept = whole[chosen(len(whole), rows, seed_of(seed, f"impute/entries/{name}"))]
            yield modality, _hidden_entries(method, split, name, kept, seed, refine), "entries/"


@dataclass(frozen=True)
class Hidden:
    """Hidden values and their imputation, (N, F) each: the flattened values of rows.

    Attributes:
        truth: the hidden values; NaN where they are unknown.
        mean: the mean of the predictive distribution.
        inside: the probability that the interval contains the truth; empty for words.
    """

    truth: Array
    mean: Array
    inside: Array


def _hidden(
    method: Method,
    split: Split,
    name: str,
    others: list[str],
    rows: Array,
    seed: int,
    refine: int | None,
) -> Hidden:
    """Hide and impute one modality in some rows.

    Counts are imputed few rows at a time, because their draws take memory.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, f"impute draws/{name}"))
    modality = next(m for m in split.modalities if m.name == name)
    at_once = (
        max(1, VALUES // (PREDICTIVE_DRAWS * math.prod(modality.shape)))
        if modality.counts
        else len(rows)
    )
    parts = []
    for start in range(0, len(rows), at_once):
        batch = split.batch(rows[start : start + at_once], device_of(method))
        totals = {name: batch.x[name].sum(-1)} if modality.counts else None
        filled = method.impute(
            batch,
            others,
            to=[name],
            n=PREDICTIVE_DRAWS,
            level=INTERVAL_LEVEL,
            refine=refine,
            samples=modality.counts,
            totals=totals,
            generator=generator,
        )
        truth = _known(batch, name)
        parts.append(
            (
                truth,
                filled.mean[name],
                _ranked(truth, filled.samples[name])
                if modality.counts
                else _inside(truth, filled, name),
            )
        )
    return Hidden(
        *(torch.cat(v).flatten(1).double().cpu().numpy() for v in zip(*parts, strict=True))
    )


def _hidden_entries(
    method: Method, split: Split, name: str, rows: Array, seed: int, refine: int | None
) -> Hidden:
    """Hide and impute some entries of a modality, but never all of a row."""
    purpose = f"impute entries/{name}"
    batch = split.batch(rows, device_of(method))
    generator = torch.Generator().manual_seed(seed_of(seed, purpose))
    there = batch.observed(name)
    luck = torch.rand(there.shape, generator=generator).to(there.device).masked_fill(~there, -1.0)
    taken = (
        there
        & (luck < HIDDEN_SHARE)
        & (luck < luck.flatten(1).amax(1).view(-1, *[1] * (there.ndim - 1)))
    )
    entries = {**batch.entries, name: there & ~taken}
    x = {**batch.x, name: batch.x[name].masked_fill(taken, 0)}
    filled = method.impute(
        replace(batch, x=x, entries=entries),
        to=[name],
        n=PREDICTIVE_DRAWS,
        level=INTERVAL_LEVEL,
        refine=refine,
        generator=generator,
    )
    truth = batch.x[name].double().masked_fill(~taken, torch.nan)
    return Hidden(
        *(
            v.flatten(1).double().cpu().numpy()
            for v in (truth, filled.mean[name], _inside(truth, filled, name))
        )
    )


def _inside(truth: Tensor, filled: Imputation, name: str) -> Tensor:
    """Whether each value lies within its interval; NaN where there is no value.

    Empty for words, which have no interval.
    """
    if name not in filled.lower:
        return truth[:, :0]
    within = (filled.lower[name] <= truth) & (truth <= filled.upper[name])
    return within.double().masked_fill(truth.isnan(), torch.nan)


def _ranked(truth: Tensor, draws: Tensor) -> Tensor:
    """Probability that the rank of each value among its draws (n, B, *shape), ties
    broken at random, lies in the central ``INTERVAL_LEVEL`` of all ranks."""
    places = len(draws) + 1
    first = (draws < truth).sum(0) / places
    last = first + ((draws == truth).sum(0) + 1) / places
    tail = (1 - INTERVAL_LEVEL) / 2
    held = (last.clamp(max=1 - tail) - first.clamp(min=tail)).clamp(min=0)
    return (held / (last - first)).double().masked_fill(truth.isnan(), torch.nan)


def _known(batch: Batch, name: str) -> Tensor:
    """The values of a modality (B, *shape), NaN where they are missing."""
    return batch.x[name].double().masked_fill(~batch.observed(name), torch.nan)


def _scored(
    scores: Scores, hidden: Hidden, modality: Modality, baseline: Array, prefix: str
) -> dict[str, float]:
    """Add the figures of one modality; those with a mean over modalities are returned."""
    truth = hidden.truth
    mean = hidden.mean

    def metric(figure: Figure) -> Metric:
        return _metric(kind=f"impute/{prefix}{figure}", target=modality.name)

    if modality.likelihood in ("categorical", "bernoulli"):
        share, interval = _accuracy(truth, mean)
        chance = _accuracy(truth, baseline)[0]
        scores.add(metric("accuracy"), share, interval=interval, chance=chance)
        return {"accuracy": share}
    share, interval = _share(hidden.inside)
    scores.add(metric("coverage90"), share, interval=interval)
    truth, mean = (readable(modality, torch.from_numpy(values)).numpy() for values in (truth, mean))
    error = _rmse(truth, mean)
    usual_error = _rmse(truth, baseline)
    nrmse = error / usual_error if usual_error > 0 else float("nan")
    correlation = _correlation(truth, mean)
    scores.add(metric("rmse"), error, chance=usual_error)
    scores.add(metric("nrmse"), nrmse)
    scores.add(metric("correlation"), correlation)
    return {"nrmse": nrmse, "correlation": correlation, "coverage90": share}


def _baseline(train: Split, modality: Modality, seed: int) -> Array:
    """(F,): the mean over training rows of each value, as networks read it; of words
    the most frequent id of each place."""
    rows = np.flatnonzero(train.present[modality.name])
    batch = train.batch(rows[chosen(len(rows), BASELINE_ROWS, seed_of(seed, "impute usual"))])
    values = readable(modality, _known(batch, modality.name).flatten(1)).numpy()
    if modality.likelihood == "categorical":
        return np.array([np.bincount(place.astype(int)).argmax() for place in values.T], float)
    return np.nan_to_num(np.nansum(values, 0) / np.maximum((~np.isnan(values)).sum(0), 1))


def _accuracy(truth: Array, guess: Array) -> tuple[float, tuple[float, float]]:
    """Accuracy of ids and of rounded binary values, with its interval."""
    same = np.rint(guess) == np.rint(truth)
    return _share(np.where(np.isnan(truth), np.nan, same))


def _share(hits: Array) -> tuple[float, tuple[float, float]]:
    """The share of ones among values (N, F), with an interval clustered by row."""
    return accuracy(hits[:, ~np.isnan(hits).all(0)])


def _rmse(truth: Array, guess: Array) -> float:
    return float(np.sqrt(np.nanmean((truth - guess) ** 2)))


def _correlation(truth: Array, guess: Array) -> float:
    """Pearson's correlation of each value over rows, mean over those that vary.

    NaN if none varies.
    """
    guess = np.where(np.isnan(truth), np.nan, guess)
    known = ~np.isnan(truth).all(0)
    a = truth[:, known] - np.nanmean(truth[:, known], 0)
    b = guess[:, known] - np.nanmean(guess[:, known], 0)
    spread = np.sqrt(np.nansum(a**2, 0) * np.nansum(b**2, 0))
    varies = spread > 0
    return (
        float((np.nansum(a * b, 0)[varies] / spread[varies]).mean())
        if varies.any()
        else float("nan")
    )


def _measure(context: Context) -> Scores:
    options = context.options
    scores = score_imputation(
        context.method,
        context.data.train_split,
        context.held_out,
        images=options.asked,
        rows=options.rows,
        seed=options.seed,
        refine=options.refine,
    )
    scores.mark_few({})
    return scores


GROUP = Group(
    "imputation",
    tuple(f"impute/{part}{figure}" for part in ("", "entries/") for figure in FIGURES),
    _measure,
    default="always",
    higher=("impute/correlation", "impute/accuracy"),
    lower=("impute/rmse", "impute/nrmse", "impute/entries/rmse", "impute/entries/nrmse"),
)
