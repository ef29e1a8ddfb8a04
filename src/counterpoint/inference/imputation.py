"""Imputation: what is missing, drawn from the predictive distribution given what is
there.

    p(x_m | x_S) ≈ ∫ p(x_m | z, w_m) p(w_m) q(z | x_S) dz dw_m,        z ~ q(z | x_S),  w_m ~ p(w_m),  x_m ~ p(x_m | z, w_m)

with a learned sampler in the place of p(w_m) where there is one, and q(w_m | x_m) where
part of x_m is there. Decoder means alone would leave out the noise of the likelihood,
which is most of what a new measurement differs by. Of n draws x_(1) ≤ … ≤ x_(n) the
interval ends at the quantiles p = (1 ∓ level)/2 in the place (n + 1) p, between
neighbours by their distance: a further draw of the same distribution then falls inside
with probability ``level``, whatever n is; quantiles in the place 1 + (n − 1) p, as is
usual, make it .882 of n = 100 at level .9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor

from counterpoint.core import noise
from counterpoint.core.batch import Batch
from counterpoint.core.display import html_table, sizes
from counterpoint.core.latents import Latents
from counterpoint.core.precision import wide
from counterpoint.inference.generation import completed, posterior_latents
from counterpoint.model.decoders import Draw
from counterpoint.model.model import Model
from counterpoint.model.rules import Rule

VALUES = 2**24
"""Most numbers that draws of some rows, or one call of a decoder for them, take at
once."""


POOL = 1024
"""Most draws of each learned sampler."""


@dataclass(frozen=True)
class Imputation:
    """Values of which none are missing, and how sure the filled ones are.

    Attributes:
        mean: by modality, (B, *shape): what is there as it is; elsewhere the mean of
            the predictive distribution, and of words the likeliest ids.
        lower, upper: ends of the central predictive interval; where a value is there,
            the value itself. None for words, whose ids have no order. Of what takes few
            values, such as Bernoulli entries, the interval is of these values, and may
            cover more than ``level``.
        probability: of words, (B, length): how probable each id is; 1 where it is
            there.
        missing: (B, *shape) bool: what was not there, and is filled but in rows that
            are ``left``.
        level: probability with which a value lies inside its interval, if the model is
            right.
        samples: draws of the predictive distribution, (n, B, *shape), where they were
            asked for; what is there is the same in all.
        left: (B,) bool: rows that have nothing to go by, and so stay missing: NaN, and
            −1 for ids. None where there are none.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> method = cp.MVAE.from_config(modalities, {"shared_dim": 2})
    >>> rows = {"x": torch.zeros(5, 3), "y": torch.zeros(5, 2)}
    >>> found = method.impute(rows, given=["x"], n=20)
    >>> found
    Imputation(rows filled: x 0, y 5; level 0.9)
    >>> found.mean["y"].shape, found.filled("y")
    (torch.Size([5, 2]), tensor([True, True, True, True, True]))
    """

    mean: dict[str, Tensor]
    lower: dict[str, Tensor]
    upper: dict[str, Tensor]
    probability: dict[str, Tensor]
    missing: dict[str, Tensor]
    level: float
    samples: dict[str, Tensor] = field(default_factory=dict)
    left: Tensor | None = None

    def __repr__(self) -> str:
        counts = (f"{name} {int(self.filled(name).sum())}" for name in self.missing)
        return f"Imputation(rows filled: {', '.join(counts)}; level {self.level:g})"

    def _repr_html_(self) -> str:
        rows = [
            (name, sizes(missing.shape[1:]), len(missing), int(self.filled(name).sum()))
            for name, missing in self.missing.items()
        ]
        header = ["modality", "shape", "rows", "rows filled"]
        return html_table(f"Imputation, {100 * self.level:g} % intervals", header, rows)

    def filled(self, name: str) -> Tensor:
        """(B,) bool: rows of a modality in which something was filled."""
        lacking = self.missing[name].flatten(1).any(1)
        return lacking if self.left is None else lacking & ~self.left

    def among(self, rows: Tensor) -> Imputation:
        """These B rows in their places among all N, of which the others are ``left``.

        Args:
            rows: (N,) bool, B of them true.
        """

        def spread(
            each: Mapping[str, Tensor], axis: int = 0, blank: float | bool = math.nan
        ) -> dict[str, Tensor]:
            found = {}
            for name, values in each.items():
                size = (*values.shape[:axis], len(rows), *values.shape[axis + 1 :])
                stays = -1 if blank is not True and not values.is_floating_point() else blank
                whole = torch.full(size, stays, dtype=values.dtype, device=values.device)
                found[name] = whole.index_copy_(axis, rows.nonzero().squeeze(1), values)
            return found

        left = ~rows
        if self.left is not None:
            left[rows] = self.left
        return Imputation(
            mean=spread(self.mean),
            lower=spread(self.lower),
            upper=spread(self.upper),
            probability=spread(self.probability),
            missing=spread(self.missing, blank=True),
            level=self.level,
            samples=spread(self.samples, 1),
            left=left,
        )

    @staticmethod
    def cat(parts: Sequence[Imputation]) -> Imputation:
        """The rows of all parts, one after the other."""

        def joined(each: Sequence[Mapping[str, Tensor]], axis: int = 0) -> dict[str, Tensor]:
            return {name: torch.cat([values[name] for values in each], axis) for name in each[0]}

        return Imputation(
            mean=joined([p.mean for p in parts]),
            lower=joined([p.lower for p in parts]),
            upper=joined([p.upper for p in parts]),
            probability=joined([p.probability for p in parts]),
            missing=joined([p.missing for p in parts]),
            level=parts[0].level,
            samples=joined([p.samples for p in parts], 1),
        )


def imputed(
    model: Model,
    batch: Batch,
    given: tuple[str, ...],
    targets: Sequence[str],
    *,
    n: int,
    level: float,
    prior: str,
    rule: Rule | None = None,
    refine: int | None = None,
    samples: bool = False,
    totals: Mapping[str, Tensor] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Imputation:
    """Fill what is missing of the targets, in rows and draws that bound the memory.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> batch = encoding.batch.only(["x"])
    >>> imputed(model, batch, ("x",), ["y"], n=20, level=0.9, prior="standard")
    Imputation(rows filled: y 5; level 0.9)

    Args:
        n: draws.
        level: of the intervals.
        samples: keep the draws.
        totals: by modality of counts, (B,): of the rows that are filled, where it is
            known; 0 and by default that of a usual row.
        progress: called with the number of rows that have just been done.

    Raises:
        ValueError: a level outside (0, 1), or too few draws for it.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1, such as 0.9")
    if n < (least := fewest(level)):
        raise ValueError(f"n={n} draws bound no {100 * level:g} % interval; give {least} or more")
    largest = max(math.prod(model.modalities[name].shape) for name in targets)
    rows = max(1, VALUES // (n * largest))
    draw = (
        partial(model.draw_prior, prior=prior)
        if prior == "standard"
        else Pool(model, prior, max(n, min(POOL, n * len(batch))))
    )
    parts = []
    for start in range(0, len(batch), rows):
        part = batch[slice(start, start + rows)]
        latents = posterior_latents(model, model.encode(part), given, n, rule, refine)
        latents = completed(model, latents, targets, part.present, draw)
        parts.append(Imputation({}, {}, {}, {}, {}, level))
        for name in targets:
            of_rows = (
                None if totals is None or name not in totals else totals[name][start : start + rows]
            )
            _fill(parts[-1], model, name, part, latents, of_rows, samples)
        if progress is not None:
            progress(len(part))
    return Imputation.cat(parts)


class Pool:
    """Draws of a learned sampler, which takes milliseconds for each: made once, and
    dealt to the rows. Those of one row are distinct."""

    def __init__(self, model: Model, prior: str, size: int) -> None:
        self._made = cache(lambda name: model.draw_prior(name, (size,), prior=prior))

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(K, B, dim): for each row K that follow each other, from a random one on."""
        made = self._made(name)
        first = torch.randint(
            len(made), (shape[1],), generator=noise.generator(made.device), device=made.device
        )
        turns = torch.arange(shape[0], device=made.device)[:, None]
        return made[(first + turns) % len(made)]


def fewest(level: float) -> int:
    """The smallest number of draws of which the interval's ends are quantiles."""
    return math.ceil(2 / (1 - level) - 1 - 1e-9)


def interval(draws: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """The central interval of n draws (n, ...), see the module.

    >>> interval(torch.arange(1.0, 100.0), 0.9)
    (tensor(5.), tensor(95.))
    """
    ordered = draws.sort(0).values

    def quantile(p: float) -> Tensor:
        place = min(max(p * (len(draws) + 1) - 1, 0.0), len(draws) - 1.0)
        below = min(int(place), len(draws) - 2)
        return torch.lerp(ordered[below], ordered[below + 1], place - below)

    return quantile((1 - level) / 2), quantile((1 + level) / 2)


def _fill(
    found: Imputation,
    model: Model,
    name: str,
    batch: Batch,
    latents: Latents,
    totals: Tensor | None,
    keep: bool,
) -> None:
    """Put one modality of some rows into ``found``."""
    there = batch.observed(name)
    x = batch.x[name]
    n = len(latents.shared)
    words = model.modalities[name].classes is not None
    rows = (~there).flatten(1).any(1).nonzero().squeeze(1)

    def whole(values: Tensor) -> Tensor:
        """(..., R, *shape) of the rows that lack something as (..., B, *shape): what is
        there, and elsewhere the values."""
        axis = values.ndim - x.ndim
        everything = (
            x.expand(*values.shape[:axis], *x.shape)
            .clone()
            .index_copy_(axis, rows, values.to(x.dtype))
        )
        return torch.where(there, x, everything)

    mean = lower = upper = x[rows]
    draws: Tensor | None = mean.expand(n, *mean.shape)
    certain = torch.ones(x.shape, device=x.device)
    if len(rows):
        mean, draws = _predictive(
            model,
            name,
            _of(latents, name, rows),
            batch.covariates[rows],
            _like(x[rows], totals, rows),
            draw=keep or not words,
        )
        if words:
            probability, mean = mean.max(-1)
            certain = torch.where(there, certain, certain.index_copy(0, rows, probability.float()))
        elif draws is not None:
            lower, upper = interval(draws.to(mean.dtype), found.level)
    found.mean[name], found.missing[name] = whole(mean), ~there
    if words:
        found.probability[name] = certain
    else:
        found.lower[name], found.upper[name] = whole(lower), whole(upper)
    if keep and draws is not None:
        found.samples[name] = whole(draws)


def _like(x: Tensor, totals: Tensor | None, rows: Tensor) -> Tensor | None:
    """Counts (R, features) that have the totals of their rows, and nothing else of
    them."""
    if totals is None:
        return None
    first = totals[rows, None].to(x)
    return torch.cat([first, torch.zeros_like(x[:, 1:])], 1)


def _of(latents: Latents, name: str, rows: Tensor) -> Latents:
    """What the decoder of one modality reads of some rows."""
    private = {name: latents.private[name][:, rows]} if name in latents.private else {}
    return Latents(latents.shared[:, rows], private)


def _predictive(
    model: Model,
    name: str,
    latents: Latents,
    covariates: Tensor,
    like: Tensor | None,
    *,
    draw: bool,
) -> tuple[Tensor, Tensor | None]:
    """E[x_m | x_S], (R, *shape), of words their probabilities (R, length, vocabulary);
    and draws, (n, R, *shape), if asked for.

    The mean is that of the decoder's means, which varies less than that of draws; a
    decoder whose means are draws is asked once.
    """
    likelihood = model.likelihood(name)
    total: Tensor | None = None
    drawn = []
    for part in _parts(latents, math.prod(likelihood.output_shape)):
        raw = wide(model.decode([Draw(part, (name,))], covariates)[0][name])
        if draw:
            drawn.append(likelihood.sample(raw, like))
        means = (likelihood.mean(raw, like) if likelihood.exact else drawn[-1]).sum(0)
        total = means if total is None else total + means
    assert total is not None  # there is at least one draw
    return total / len(latents.shared), torch.cat(drawn) if draw else None


def _parts(latents: Latents, size: int) -> Iterator[Latents]:
    """So many draws at a time that their raw outputs, ``size`` numbers each, are
    bounded."""
    n, rows = latents.shared.shape[:2]
    draws = max(1, VALUES // (rows * size))
    for start in range(0, n, draws):
        some = slice(start, start + draws)
        private = {name: w[some] for name, w in latents.private.items()}
        yield Latents(latents.shared[some], private)
