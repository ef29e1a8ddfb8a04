"""Imputation: how near what is filled comes to what was hidden, and how often its intervals hold it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..nn import readable
from .latents import device_of
from .scores import Array, Scores, accuracy, chosen, seed_of

if TYPE_CHECKING:
    from ..data import Split
    from ..methods import Method
    from ..types import Batch, Modality

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
    """Each modality hidden in turn in rows that have it and another one, and filled given the others they have.

    Of numbers ``impute/rmse/<m>``; ``impute/nrmse/<m>``, over that of the training mean; ``impute/correlation/<m>``, of each feature over rows, mean
    over features; and ``impute/coverage90/<m>``, the share of values within their 90 % interval. Of words and binary values ``impute/accuracy/<m>``.
    Of modalities with gaps ``impute/entries/<the same>``, too: a tenth of the entries hidden in rows of which all else is given.
    Counts are filled at the totals of their rows, and errors and correlations are of what networks see of them (:func:`counterpoint.nn.readable`).
    ``chance/impute/...`` is what the training mean, or the most frequent value of each place, comes to. All but RMSE have a mean over modalities, too.

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
        usable = np.flatnonzero(split.present[name] & np.logical_or.reduce([split.present[other] for other in others]))
        if len(modality.shape) == 3 and not images:
            scores.left_out[f"impute/{name}"] = "images take long, and are imputed where the group is asked for"
        elif not len(usable) or not train.present[name].any():
            scores.left_out[f"impute/{name}"] = "no row has it and another modality"
        else:
            kept = usable[chosen(len(usable), rows, seed_of(seed, f"impute/{name}"))]
            hidden = _hidden(method, split, name, others, kept, seed, refine)
            for kind, value in _scored(scores, hidden, modality, train, seed).items():
                found.setdefault(kind, []).append(value)
        if modality.gaps and split.present[name].any() and train.present[name].any():
            whole = np.flatnonzero(split.present[name])
            kept = whole[chosen(len(whole), rows, seed_of(seed, f"impute/entries/{name}"))]
            entries = _hidden_entries(method, split, name, kept, seed, refine)
            for kind, value in _scored(scores, entries, modality, train, seed, "entries/").items():
                found.setdefault(f"entries/{kind}", []).append(value)
    for kind, values in found.items():
        scores.add(f"impute/{kind}", float(np.mean(values)))
    return scores


@dataclass(frozen=True)
class Hidden:
    """What was hidden, and what it was filled by, each (N, F): the values of a row side by side. NaN where the truth is not known either.

    Attributes:
        lower, upper: empty for words.
    """

    truth: Array
    mean: Array
    lower: Array
    upper: Array


def _hidden(method: Method, split: Split, name: str, others: list[str], rows: Array, seed: int, refine: int | None) -> Hidden:
    """One modality hidden and filled in some rows."""
    generator = torch.Generator().manual_seed(seed_of(seed, f"impute draws/{name}"))
    batch = split.batch(rows, device_of(method))
    counts = next(m for m in split.modalities if m.name == name).counts
    totals = {name: batch.x[name].sum(-1)} if counts else None
    filled = method.impute(batch, others, to=[name], n=DRAWS, level=LEVEL, refine=refine, totals=totals, generator=generator)
    nothing = batch.x[name][:, :0]
    ends = (filled.lower.get(name, nothing), filled.upper.get(name, nothing))
    return Hidden(*(v.flatten(1).double().cpu().numpy() for v in (_known(batch, name), filled.mean[name], *ends)))


def _hidden_entries(method: Method, split: Split, name: str, rows: Array, seed: int, refine: int | None) -> Hidden:
    """Some entries of a modality hidden and filled, but never all of a row."""
    purpose = f"impute entries/{name}"
    batch, generator = split.batch(rows, device_of(method)), torch.Generator().manual_seed(seed_of(seed, purpose))
    there = batch.observed(name)
    luck = torch.rand(there.shape, generator=generator).to(there.device).masked_fill(~there, -1.0)
    taken = there & (luck < SHARE) & (luck < luck.flatten(1).amax(1).view(-1, *[1] * (there.ndim - 1)))
    entries, x = {**batch.entries, name: there & ~taken}, {**batch.x, name: batch.x[name].masked_fill(taken, 0)}
    filled = method.impute(replace(batch, x=x, entries=entries), to=[name], n=DRAWS, level=LEVEL, refine=refine, generator=generator)
    truth = batch.x[name].double().masked_fill(~taken, torch.nan)
    return Hidden(*(v.flatten(1).double().cpu().numpy() for v in (truth, filled.mean[name], filled.lower[name], filled.upper[name])))


def _known(batch: Batch, name: str) -> Tensor:
    """The values of a modality (B, *shape), NaN where they are not there."""
    return batch.x[name].double().masked_fill(~batch.observed(name), torch.nan)


def _scored(scores: Scores, hidden: Hidden, modality: Modality, train: Split, seed: int, what: str = "") -> dict[str, float]:
    """Add what concerns one modality, below ``impute/<what>``; what has a mean over modalities is returned by kind."""
    name, truth, mean = modality.name, hidden.truth, hidden.mean
    usual = _usual(train, modality, seed)
    if modality.likelihood in ("categorical", "bernoulli"):
        scores.add(f"chance/impute/{what}accuracy/{name}", _accuracy(truth, usual)[0])
        share, interval = _accuracy(truth, mean)
        scores.add(f"impute/{what}accuracy/{name}", share, interval)
        return {"accuracy": share}
    share, interval = _share(np.where(np.isnan(truth), np.nan, (hidden.lower <= truth) & (truth <= hidden.upper)))
    scores.add(f"impute/{what}coverage90/{name}", share, interval)
    truth, mean = (readable(modality, torch.from_numpy(values)).numpy() for values in (truth, mean))
    error, baseline = _rmse(truth, mean), _rmse(truth, usual)
    scores.add(f"impute/{what}rmse/{name}", error)
    scores.add(f"chance/impute/{what}rmse/{name}", baseline)
    found = {"nrmse": error / baseline if baseline > 0 else float("nan"), "correlation": _correlation(truth, mean)}
    for kind, value in found.items():
        scores.add(f"impute/{what}{kind}/{name}", value)
    return found | {"coverage90": share}


def _usual(train: Split, modality: Modality, seed: int) -> Array:
    """(F,): the mean over training rows of each value, as networks see it; of words the most frequent id of each place."""
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
    """The share of ones among values (N, F), with an interval to which a row's values count as one."""
    return accuracy(hits[:, ~np.isnan(hits).all(0)])


def _rmse(truth: Array, guess: Array) -> float:
    return float(np.sqrt(np.nanmean((truth - guess) ** 2)))


def _correlation(truth: Array, guess: Array) -> float:
    """Pearson's of each value over rows, mean over those that vary; NaN where none does."""
    guess = np.where(np.isnan(truth), np.nan, guess)
    known = ~np.isnan(truth).all(0)
    a, b = (v[:, known] - np.nanmean(v[:, known], 0) for v in (truth, guess))
    spread = np.sqrt(np.nansum(a**2, 0) * np.nansum(b**2, 0))
    varies = spread > 0
    return float((np.nansum(a * b, 0)[varies] / spread[varies]).mean()) if varies.any() else float("nan")
