"""Generations: everything that a method generates for its evaluation, each once.

Only what the judges see in generated values is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from counterpoint.core.latents import Latents
from counterpoint.core.modality import covariates_of
from counterpoint.core.noise import seeded
from counterpoint.metrics.binary_f1 import f1
from counterpoint.metrics.intervals import Array
from counterpoint.metrics.judges import Judges, values_of
from counterpoint.metrics.matchers import Matchers
from counterpoint.metrics.means import device_of
from counterpoint.metrics.sampling import chunks, seed_of
from counterpoint.metrics.seen import Seen

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.methods import Method

_MAX_SUBSETS = 32  # of one size
_MAX_WHOLE_MODALITIES = 4  # with more, rows are dealt out to the sets of given modalities


class Generations:
    """What a method generates from rows and from its priors, as the judges see it.

    Nothing is generated before it is needed. Every part has a random generator of its
    own, on the CPU.

    >>> import counterpoint as cp
    >>> from counterpoint.metrics import Generations, Judge, JudgeOptions, Judges, Matchers
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split, classes = data.test.take(range(8)), {"digit": np.arange(10)}
    >>> judges = Judges({m.name: Judge(m, classes, JudgeOptions()) for m in data.modalities})
    >>> generations = Generations(method, split, judges, Matchers({}, {}), samples=8)
    >>> generations.unconditional()["view0"].labels["digit"].shape
    (8,)

    Args:
        method: the method.
        split: the rows to generate from.
        judges: the judge of each modality.
        matchers: the judges of pairs, which embed values generated from one modality or
            from none; empty if matches are not measured.
        samples: the number of unconditional samples.
        seed: of everything that is drawn.
        batch_size: rows at a time.
        refine: refine posteriors by so many steps before sampling from them.
    """

    def __init__(
        self,
        method: Method,
        split: Split,
        judges: Judges,
        matchers: Matchers,
        *,
        samples: int,
        seed: int = 0,
        batch_size: int = 256,
        refine: int | None = None,
    ) -> None:
        self.method = method
        self.split = split
        self.judges = judges
        self.matchers = matchers
        self.samples = samples
        self.seed = seed
        self.batch_size = batch_size
        self.refine = refine
        self.names = [m.name for m in split.modalities]
        self.binary = [m.name for m in split.modalities if m.likelihood == "bernoulli"]
        self._unconditional: dict[str, dict[str, Seen]] = {}

    @cached_property
    def singles(self) -> dict[str, dict[str, Seen]]:
        """By source, then by target: generated from one modality, itself included."""
        return {
            source: self._translated((source,), np.arange(len(self.split)), self.names)
            for source in self.names
        }

    @cached_property
    def dealt(self) -> dict[tuple[str, ...], Array]:
        """By set of 2 .. M−1 given modalities, the rows dealt to it.

        The rows are dealt to the sets of a size (a random 32 if there are more), so
        that every size costs one pass.
        """
        rng = np.random.default_rng(seed_of(self.seed, "subsets"))
        rows: dict[tuple[str, ...], Array] = {}
        for size in range(2, len(self.names)):
            subsets = list(combinations(self.names, size))
            subsets = [subsets[i] for i in rng.permutation(len(subsets))[:_MAX_SUBSETS]]
            dealt = rng.permutation(len(self.split)) % len(subsets)
            rows |= {subset: np.flatnonzero(dealt == i) for i, subset in enumerate(subsets)}
        return rows

    @cached_property
    def several(self) -> dict[tuple[str, ...], dict[str, Seen]]:
        """By set of 2 .. M−1 given modalities: the others, from the rows dealt to it."""
        return {
            subset: self._translated(subset, rows, self._others(subset))
            for subset, rows in self.dealt.items()
        }

    @property
    def whole(self) -> bool:
        """Whether there are few enough sets of modalities to generate from every row
        for each."""
        return len(self.names) <= _MAX_WHOLE_MODALITIES

    @cached_property
    def given(self) -> dict[tuple[str, ...], dict[str, Seen]]:
        """By set of 1 .. M−1 given modalities: the others.

        They are generated from every row, or with M > 4 from those dealt to the set.
        """
        return self.given_one | (self.given_more if self.whole else self.several)

    @property
    def given_one(self) -> dict[tuple[str, ...], dict[str, Seen]]:
        """``singles`` without the sources themselves."""
        return {
            (source,): {name: seen for name, seen in by_target.items() if name != source}
            for source, by_target in self.singles.items()
        }

    @cached_property
    def given_more(self) -> dict[tuple[str, ...], dict[str, Seen]]:
        """``several``, and the same from the rows not dealt to the set."""
        found = {}
        for given, rows in self.dealt.items():
            rest = self._translated(
                given,
                np.setdiff1d(np.arange(len(self.split)), rows),
                self._others(given),
                purpose="rest",
            )
            found[given] = _cat(part for part in (self.several[given], rest) if part)
        return found

    def unconditional(self, prior: str | None = None) -> dict[str, Seen]:
        """By modality, unconditional samples from a prior.

        Samples take the covariates of the rows in turn.

        Args:
            prior: the kind of the prior; None for the last of the method's.
        """
        prior = self.method.priors[-1] if prior is None else prior
        if prior not in self._unconditional:
            generator = self._generator("joint")  # the purpose keeps old figures repeatable
            parts = [
                self._seen(
                    self.method.sample(
                        len(rows),
                        prior=prior,
                        covariates=self._covariates(rows),
                        generator=generator,
                    ),
                    rows,
                    self.names,
                )
                for rows in chunks(np.arange(self.samples), self.batch_size)
            ]
            self._unconditional[prior] = _cat(parts)
        return self._unconditional[prior]

    @cached_property
    def recombined(self) -> tuple[Array, dict[str, Seen]]:
        """The partners (N,) of rows, and by modality each row's z with the partner's w.

        The partner is a random other row.
        """
        partner = _derangement(len(self.split), seed_of(self.seed, "partners"))
        device = device_of(self.method)
        generator = self._generator("recombine")
        parts = [
            self._seen(
                self.method.recombine(
                    self.split.batch(rows, device),
                    self.split.batch(partner[rows], device),
                    generator=generator,
                ),
                rows,
            )
            for rows in chunks(np.arange(len(self.split)), self.batch_size)
        ]
        return partner, _cat(parts)

    @cached_property
    def kept_private(self) -> dict[str, Seen]:
        """By modality: each row's w_m with a z from the prior, the same for all."""
        device = device_of(self.method)
        generator = self._generator("decode")
        with torch.no_grad(), seeded(self._generator("private")):
            shared = self.method.model.draw_prior(
                "z", (1, len(self.split)), prior=self.method.priors[-1]
            )
        found: dict[str, Seen] = {}
        for name in self.names:
            parts = []
            for rows in chunks(np.flatnonzero(self.split.present[name]), self.batch_size):
                latents = self.method.encode(self.split.batch(rows, device), given=[name])
                given = Latents(shared[:, torch.from_numpy(rows)], {name: latents.private[name]})
                values = self.method.decode(
                    given, to=[name], covariates=self._covariates(rows), generator=generator
                )
                parts.append(self._seen({name: values[name][0]}, rows))
            found.update(_cat(parts))
        return found

    def _others(self, given: tuple[str, ...]) -> list[str]:
        return [name for name in self.names if name not in given]

    def _translated(
        self, given: tuple[str, ...], rows: Array, to: list[str], purpose: str = "translate"
    ) -> dict[str, Seen]:
        rows = rows[np.logical_and.reduce([self.split.present[name][rows] for name in given])]
        generator = self._generator(f"{purpose}/{','.join(given)}")
        device = device_of(self.method)
        parts = []
        for part in chunks(rows, self.batch_size):
            values = self.method.translate(
                self.split.batch(part, device).only(given),
                to,
                refine=self.refine,
                generator=generator,
            )
            parts.append(
                self._seen(
                    {name: drawn[0] for name, drawn in values.items()},
                    part,
                    given if len(given) == 1 else (),
                )
            )
        return _cat(parts)

    def _seen(
        self, values: dict[str, Tensor], rows: Array, partners: Sequence[str] = ()
    ) -> dict[str, Seen]:
        """What judges see in values, and their embeddings by the judges of pairs."""
        found = {}
        for name, drawn in values.items():
            points = self.matchers.places(
                name, [partner for partner in partners if partner != name], drawn
            )
            found[name] = replace(
                self.judges.see(name, drawn, rows), f1=self._f1(name, drawn, rows), points=points
            )
        return found

    def _f1(self, name: str, drawn: Tensor, rows: Array) -> Array:
        """(n,): F1 of binary values against those of their rows.

        Unconditional samples may be more than the rows, and then start again.
        """
        if name not in self.binary:
            return np.full(len(rows), np.nan)
        rows = rows % len(self.split)
        found = f1(values_of(self.split, name, rows, drawn.device), drawn).cpu().numpy()
        return np.where(self.split.present[name][rows], found, np.nan)

    def _covariates(self, rows: Array) -> Array | None:
        """The covariates of rows, which start again after the last; None if unused."""
        read = covariates_of(self.split.modalities)
        return self.split.covariates[rows % len(self.split)] if read else None

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.seed, purpose))


def _cat(parts: Iterable[dict[str, Seen]]) -> dict[str, Seen]:
    parts = list(parts)
    return {name: Seen.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _derangement(rows: int, seed: int) -> Array:
    """(N,): a random cycle through all rows, so that no row is its own partner."""
    order = np.random.default_rng(seed).permutation(rows)
    partner = np.empty(rows, np.int64)
    partner[order] = np.roll(order, 1)
    return partner
