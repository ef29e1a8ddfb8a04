"""Imputation: how near what is filled comes to what was hidden, and how often its
intervals hold it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from counterpoint.inference.imputation import VALUES, Imputation
from counterpoint.metrics.means import device_of
from counterpoint.metrics.score import Array, Scores, accuracy, chosen, seed_of
from counterpoint.nn.modules import readable

if TYPE_CHECKING:
    from counterpoint.core.batch import Batch
    from counterpoint.core.modality import Modality
    from counterpoint.data import Split
    from counterpoint.methods import Method

DRAWS, LEVEL = 100, 0.9
"""Draws of the predictive distribution, and the level of its intervals."""

SHARE = 0.1
"""Of the entries of modalities with gaps, how many are hidden."""

USUAL_ROWS = 10_000
"""Most training rows of which the mean is the baseline."""


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
    """Each modality hidden in turn in rows that have it and another one, and filled
    given the others they have.

    Of numbers ``impute/rmse/<m>``; ``impute/nrmse/<m>``, over that of the training
    mean; ``impute/correlation/<m>``, of each feature over rows, mean over features; and
    ``impute/coverage90/<m>``, the share of values within their 90 % interval. An
    interval that ends at a count holds more than its level, so of counts it is the
    share of random ranks among the draws, ties broken at random, that are within it
    (Czado, Gneiting & Held 2009, https://doi.org/10.1111/j.1541-0420.2009.01191.x): .9,
    too, of a model that is right. Of words and binary values ``impute/accuracy/<m>``.
    Of modalities with gaps ``impute/entries/<the same>``, too: a tenth of the entries
    hidden in rows of which all else is given. Counts are filled at the totals of their
    rows, and errors and correlations are of what networks see of them
    (:func:`counterpoint.nn.build.readable`). ``chance/impute/...`` is what the training
    mean, or the most frequent value of each place, comes to. All but RMSE have a mean
    over modalities, too.

    Args:
        images: measure images, too, which takes long.
        rows: most rows of each modality.
        refine: steps by which posteriors are refined; None for none.
    """
    scores = Scores()
    found: dict[str, list[float]] = {}
    for modality in split.modalities:
        name = modality.name
        others = [m.name for m in split.modalities if m.name != name]
        usable = np.flatnonzero(
            split.present[name] & np.logical_or.reduce([split.present[other] for other in others])
        )
        if len(modality.shape) == 3 and not images:
            scores.left_out[f"impute/{name}"] = (
                "images take long, and are imputed where the group is asked for"
            )
        elif not len(usable) or not train.present[name].any():
            scores.left_out[f"impute/{name}"] = "no row has it and another modality"
        else:
            kept = usable[chosen(len(usable), rows, seed_of(seed, f"impute/{name}"))]
            hidden = _hidden(method, split, name, others, kept, seed, refine)
            for kind, value in _scored(scores, hidden, modality, train, seed).items():
                found.setdefault(kind, []).append(value)
            scores.rest_on(len(kept))
        if modality.gaps and split.present[name].any() and train.present[name].any():
            whole = np.flatnonzero(split.present[name])
            kept = whole[chosen(len(whole), rows, seed_of(seed, f"impute/entries/{name}"))]
            entries = _hidden_entries(method, split, name, kept, seed, refine)
            for kind, value in _scored(scores, entries, modality, train, seed, "entries/").items():
                found.setdefault(f"entries/{kind}", []).append(value)
            scores.rest_on(len(kept))
    for kind, values in found.items():
        scores.add(f"impute/{kind}", float(np.mean(values)))
    scores.rest_on(min(scores.rows.values(), default=0))
    return scores


@dataclass(frozen=True)
class Hidden:
    """What was hidden, and what it was filled by, each (N, F): the values of a row side
    by side.

    Attributes:
        truth: NaN where it is not known either.
        mean: of the predictive distribution.
        inside: probability that its interval holds the truth; empty for words.
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
    """One modality hidden and filled in some rows; counts in as few at a time as their
    draws take memory for."""
    generator = torch.Generator().manual_seed(seed_of(seed, f"impute draws/{name}"))
    modality = next(m for m in split.modalities if m.name == name)
    at_once = (
        max(1, VALUES // (DRAWS * math.prod(modality.shape))) if modality.counts else len(rows)
    )
    parts = []
    for start in range(0, len(rows), at_once):
        batch = split.batch(rows[start : start + at_once], device_of(method))
        totals = {name: batch.x[name].sum(-1)} if modality.counts else None
        filled = method.impute(
            batch,
            others,
            to=[name],
            n=DRAWS,
            level=LEVEL,
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
    """Some entries of a modality hidden and filled, but never all of a row."""
    purpose = f"impute entries/{name}"
    batch, generator = (
        split.batch(rows, device_of(method)),
        torch.Generator().manual_seed(seed_of(seed, purpose)),
    )
    there = batch.observed(name)
    luck = torch.rand(there.shape, generator=generator).to(there.device).masked_fill(~there, -1.0)
    taken = (
        there & (luck < SHARE) & (luck < luck.flatten(1).amax(1).view(-1, *[1] * (there.ndim - 1)))
    )
    entries, x = (
        {**batch.entries, name: there & ~taken},
        {**batch.x, name: batch.x[name].masked_fill(taken, 0)},
    )
    filled = method.impute(
        replace(batch, x=x, entries=entries),
        to=[name],
        n=DRAWS,
        level=LEVEL,
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
    """Whether each value lies within its interval, NaN where there is no value; empty
    for words, which have no interval."""
    if name not in filled.lower:
        return truth[:, :0]
    within = (filled.lower[name] <= truth) & (truth <= filled.upper[name])
    return within.double().masked_fill(truth.isnan(), torch.nan)


def _ranked(truth: Tensor, draws: Tensor) -> Tensor:
    """Probability that the rank of each value among its draws (n, B, *shape), ties
    broken at random, lies in the central ``LEVEL`` of all ranks."""
    places = len(draws) + 1
    first = (draws < truth).sum(0) / places
    last = first + ((draws == truth).sum(0) + 1) / places
    tail = (1 - LEVEL) / 2
    held = (last.clamp(max=1 - tail) - first.clamp(min=tail)).clamp(min=0)
    return (held / (last - first)).double().masked_fill(truth.isnan(), torch.nan)


def _known(batch: Batch, name: str) -> Tensor:
    """The values of a modality (B, *shape), NaN where they are not there."""
    return batch.x[name].double().masked_fill(~batch.observed(name), torch.nan)


def _scored(
    scores: Scores, hidden: Hidden, modality: Modality, train: Split, seed: int, what: str = ""
) -> dict[str, float]:
    """Add what concerns one modality, below ``impute/<what>``; what has a mean over
    modalities is returned by kind."""
    name, truth, mean = modality.name, hidden.truth, hidden.mean
    usual = _usual(train, modality, seed)
    if modality.likelihood in ("categorical", "bernoulli"):
        scores.add(f"chance/impute/{what}accuracy/{name}", _accuracy(truth, usual)[0])
        share, interval = _accuracy(truth, mean)
        scores.add(f"impute/{what}accuracy/{name}", share, interval)
        return {"accuracy": share}
    share, interval = _share(hidden.inside)
    scores.add(f"impute/{what}coverage90/{name}", share, interval)
    truth, mean = (readable(modality, torch.from_numpy(values)).numpy() for values in (truth, mean))
    error, baseline = _rmse(truth, mean), _rmse(truth, usual)
    scores.add(f"impute/{what}rmse/{name}", error)
    scores.add(f"chance/impute/{what}rmse/{name}", baseline)
    found = {
        "nrmse": error / baseline if baseline > 0 else float("nan"),
        "correlation": _correlation(truth, mean),
    }
    for kind, value in found.items():
        scores.add(f"impute/{what}{kind}/{name}", value)
    return found | {"coverage90": share}


def _usual(train: Split, modality: Modality, seed: int) -> Array:
    """(F,): the mean over training rows of each value, as networks see it; of words the
    most frequent id of each place."""
    rows = np.flatnonzero(train.present[modality.name])
    batch = train.batch(rows[chosen(len(rows), USUAL_ROWS, seed_of(seed, "impute usual"))])
    values = readable(modality, _known(batch, modality.name).flatten(1)).numpy()
    if modality.likelihood == "categorical":
        return np.array([np.bincount(place.astype(int)).argmax() for place in values.T], float)
    return np.nan_to_num(np.nansum(values, 0) / np.maximum((~np.isnan(values)).sum(0), 1))


def _accuracy(truth: Array, guess: Array) -> tuple[float, tuple[float, float]]:
    """Of ids and of binary values, which are rounded."""
    return _share(np.where(np.isnan(truth), np.nan, np.rint(guess) == np.rint(truth)))


def _share(hits: Array) -> tuple[float, tuple[float, float]]:
    """The share of ones among values (N, F), with an interval to which a row's values
    count as one."""
    return accuracy(hits[:, ~np.isnan(hits).all(0)])


def _rmse(truth: Array, guess: Array) -> float:
    return float(np.sqrt(np.nanmean((truth - guess) ** 2)))


def _correlation(truth: Array, guess: Array) -> float:
    """Pearson's of each value over rows, mean over those that vary; NaN where none
    does."""
    guess = np.where(np.isnan(truth), np.nan, guess)
    known = ~np.isnan(truth).all(0)
    a, b = (v[:, known] - np.nanmean(v[:, known], 0) for v in (truth, guess))
    spread = np.sqrt(np.nansum(a**2, 0) * np.nansum(b**2, 0))
    varies = spread > 0
    return (
        float((np.nansum(a * b, 0)[varies] / spread[varies]).mean())
        if varies.any()
        else float("nan")
    )
