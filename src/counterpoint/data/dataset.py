"""A data set: three splits of the same modalities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from counterpoint.core.display import cut, html_lines
from counterpoint.core.modality import COUNTS, Modality
from counterpoint.data.display import described
from counterpoint.data.missing import Missing, can_have_gaps, check_fraction, with_gaps
from counterpoint.data.rows import Rows
from counterpoint.data.split import COVARIATES, Array, Split, joined

Family = Literal["normal", "laplace", "bernoulli", "beta", "nb", "zinb"]
"""Likelihoods that values can be read by, instead of their own."""

_BLOCK = 4096  # rows read together for a checksum


@dataclass(frozen=True, repr=False)
class Dataset:
    """Hold three splits of the same modalities.

    Attributes:
        train: rows to learn from: a split, or a :class:`~counterpoint.data.Stream`.
        notes: what a reader of results must know, e.g. where the backgrounds come from.
        digest: checksum known beforehand (prepared sets bring it in their manifest).

    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> data.modalities[0].shape, [*data.train.shared_labels]
    ((3, 16, 16), ['digit'])
    >>> half = data.with_missing(0.5)
    >>> 0.4 < half.train.present["view0"].mean() < 0.7
    np.True_
    """

    name: str
    modalities: tuple[Modality, ...]
    train: Rows
    val: Split
    test: Split
    notes: dict[str, str] = field(default_factory=dict)
    digest: str | None = None

    def __post_init__(self) -> None:
        for part, split in (("train", self.train), ("val", self.val), ("test", self.test)):
            if split.modalities != tuple(self.modalities):
                raise ValueError(
                    f"the {part} split of {self.name!r} has other modalities than the data set; build all three alike"
                )
            if split.covariate_names != self.train.covariate_names:
                raise ValueError(
                    f"the {part} split of {self.name!r} has other covariates than the train split; build all three alike"
                )

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """Names of the columns of covariates."""
        return self.train.covariate_names

    @cached_property
    def train_split(self) -> Split:
        """Training rows in memory: all of a split, a sample of a stream."""
        return self.train.in_memory()

    def splits(self) -> dict[str, Split]:
        """Return the splits by name, in the order train, val, test.

        Raises:
            ValueError: train is a stream, of which there is no split.
        """
        try:
            train = self.train.whole()
        except ValueError as error:
            raise ValueError(f"{self.name!r}: {error}") from None
        return {"train": train, "val": self.val, "test": self.test}

    def with_likelihood(
        self, likelihood: Family | None = None, scale: float | None = None
    ) -> Dataset:
        """Return the same values with another likelihood. Word ids and counts keep
        their own, unless the likelihood is one of counts.

        Args:
            likelihood: ``"normal"``, ``"laplace"``, ``"bernoulli"`` (values in [0, 1];
                no density of grey values, so that its log-likelihoods compare with
                nothing else), ``"beta"`` (values in [0, 1]), ``"nb"`` or ``"zinb"``
                (counts; integers without words, which are word ids by default,
                are counts, too); None keeps each modality's own.
            scale: σ (normal) or b (laplace). None learns it where ``likelihood`` is
                given, and keeps it otherwise.

        Raises:
            ValueError: another likelihood, nothing that could take it, values that do
                not fit, or a scale for a likelihood without one.
        """
        if likelihood is not None and likelihood not in get_args(Family):
            raise ValueError(
                f"likelihood {likelihood!r} must be one of {', '.join(get_args(Family))}; word ids keep their own"
            )
        if all(_keeps_likelihood(modality, likelihood) for modality in self.modalities):
            kinds = {"counts" if m.counts else "word ids" for m in self.modalities}
            raise ValueError(
                f"{self.name!r} holds {' and '.join(sorted(kinds))} alone, which keep their own likelihood; leave likelihood and scale out"
            )
        return self._with(
            tuple(_read_by(modality, likelihood, scale) for modality in self.modalities)
        )

    def _with(self, modalities: tuple[Modality, ...]) -> Dataset:
        """The same arrays with other modalities."""
        train = self.train.with_modalities(modalities)
        val, test = (part.with_modalities(modalities) for part in (self.val, self.test))
        return replace(self, modalities=modalities, train=train, val=val, test=test)

    def read_as(self, modalities: Sequence[Modality]) -> Dataset:
        """Return the data as a model of these modalities reads them
        (:mod:`counterpoint.core.conversion`). Modalities that the data lack are absent
        in every row.

        Raises:
            ValueError: the first thing that differs and can't be converted.
        """
        asked = tuple(modalities)
        if self.modalities == asked:
            return self
        train = self.train.read_as(asked)
        val, test = (part.read_as(asked) for part in (self.val, self.test))
        return replace(self, modalities=asked, train=train, val=val, test=test)

    def divided_by(
        self, wanted: Mapping[str, Sequence[str]], keys: Mapping[str, Sequence[str]]
    ) -> Dataset:
        """Return the same rows in other splits. Rows that are not wanted are left out.

        Args:
            wanted: keys of the rows of "train", "val" and "test". Those that the data
                lack are passed over.
            keys: of the rows as they are divided now.

        Raises:
            ValueError: a split that would be empty.
        """
        whole = joined([*self.splits().values()])
        place = {}
        for row, key in enumerate(key for part in self.splits() for key in keys[part]):
            place[key] = row
        parts = {}
        for part in self.splits():
            rows = np.array([place[key] for key in wanted[part] if key in place], np.int64)
            if not len(rows):
                raise ValueError(f"{self.name!r} has none of the {len(wanted[part]):,} {part} rows")
            parts[part] = whole.take(rows)
        return replace(
            self, train=parts["train"], val=parts["val"], test=parts["test"], digest=None
        )

    def with_missing(self, fraction: float, seed: int = 0, how: Missing = "random") -> Dataset:
        """Return the same data with training values hidden
        (:meth:`Split.with_missing`). Validation and test stay as they are."""
        whole = self.splits()["train"]
        train = whole.with_missing(fraction, seed, how)
        stay, were = (sum(int(p.sum()) for p in s.present.values()) for s in (train, whole))
        digest = self.digest and f"{self.digest}-missing-{fraction}-{seed}" + "-block" * (
            how == "block"
        )
        told = {
            "random": f"each training value hidden with probability {fraction}",
            "block": f"runs of {fraction} of the training rows hidden",
        }
        about = f"{told[how]}: {1 - stay / were:.1%} are, as a row keeps one"
        return replace(self, train=train, notes={**self.notes, "missing": about}, digest=digest)

    def with_gaps(
        self, fraction: float, seed: int = 0, among: Sequence[str] | None = None
    ) -> Dataset:
        """Return the same data with single entries of training vectors hidden. Each is
        hidden with probability ``fraction``, but a row keeps at least one entry of a
        modality. Validation and test stay as they are.

        Args:
            among: modalities that get gaps; by default all vectors but word ids and
                counts.

        Raises:
            ValueError: ``fraction`` outside [0, 1], or a modality that can't have gaps.
        """
        check_fraction(fraction, "entries")
        chosen = self._vectors(among)
        rng = np.random.default_rng(seed)
        whole = self.splits()["train"]
        x = {
            m.name: with_gaps(m, whole.x[m.name], fraction, rng)
            for m in self.modalities
            if m.name in chosen
        }
        modalities = tuple(replace(m, gaps=m.gaps or m.name in chosen) for m in self.modalities)
        train = replace(whole, x={**whole.x, **x}, modalities=modalities)
        val, test = (replace(split, modalities=modalities) for split in (self.val, self.test))
        about = f"each training entry of {', '.join(chosen)} hidden with probability {fraction}"
        digest = self.digest and f"{self.digest}-gaps-{fraction}-{seed}-{','.join(chosen)}"
        return replace(
            self,
            modalities=modalities,
            train=train,
            val=val,
            test=test,
            notes={**self.notes, "missing": about},
            digest=digest,
        )

    def _vectors(self, among: Sequence[str] | None) -> list[str]:
        """Names of the modalities that get gaps."""
        able = [m.name for m in self.modalities if can_have_gaps(m)]
        chosen = able if among is None else list(among)
        if unable := [name for name in chosen if name not in able]:
            raise ValueError(
                f"entries of {unable[0]!r} can't be hidden; vectors that can have gaps are {', '.join(able) or 'none'}"
            )
        if not chosen:
            raise ValueError(
                f"no entries to hide: {self.name!r} has no vector that can have gaps, or none is named"
            )
        return chosen

    def checksum(self) -> str:
        """Compute a stable hexadecimal checksum (SHA-256) of the modalities, values,
        masks, labels and covariates of all splits. A prepared set has it beforehand."""
        if self.digest is not None:
            return self.digest
        total = hashlib.sha256(
            json.dumps([m.identity() for m in self.modalities], sort_keys=True).encode()
        )
        for part, split in self.splits().items():
            for key, values in sorted(named_arrays(split).items()):
                total.update(f"{part}/{key}:{values.dtype.str}{values.shape}".encode())
                for start in range(0, len(split), _BLOCK):
                    total.update(np.ascontiguousarray(values[start : start + _BLOCK]).data)
        return total.hexdigest()

    def __repr__(self) -> str:
        return "\n".join([f"Dataset {self.name!r}: {self._sizes()}", *self._described()])

    def _repr_html_(self) -> str:
        return html_lines(f"Dataset {self.name!r}: {self._sizes()}", self._described())

    def _sizes(self) -> str:
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return ", ".join(f"{len(rows):,} {part}" for part, rows in parts.items()) + " rows"

    def _described(self) -> list[str]:
        """A line for each modality, then labels, covariates and notes."""
        lines = [described(modality) for modality in self.modalities]
        private = [f"{label} of {', '.join(by)}" for label, by in self.val.private_labels.items()]
        if labels := [*self.val.shared_labels, *private]:
            lines.append(f"labels: {'; '.join(labels)}")
        if self.covariate_names:
            lines.append(f"covariates: {', '.join(self.covariate_names)}")
        notes = [f"note on {key}: {cut(text)}" for key, text in self.notes.items()]
        return [*lines, *notes]


def named_arrays(split: Split) -> dict[str, Array]:
    """Return the values, masks, labels and covariates of a split by the names that they
    have in a folder.

    >>> import counterpoint as cp
    >>> split = cp.data.Split({"x": np.ones((5, 1))}, (cp.Modality("x", (1,), "normal"),))
    >>> [*named_arrays(split)]
    ['x', 'present/x']
    """
    arrays: dict[str, Array] = {**split.x}
    arrays |= {f"present/{name}": mask for name, mask in split.present.items()}
    arrays |= {f"label/{label}": values for label, values in split.shared_labels.items()}
    for label, by_modality in split.private_labels.items():
        arrays |= {f"label/{label}/{name}": values for name, values in by_modality.items()}
    if split.covariate_names:
        arrays[COVARIATES] = split.covariates
    return arrays


def _keeps_likelihood(modality: Modality, likelihood: Family | None) -> bool:
    """Whether a modality does not take the likelihood: word ids and counts."""
    ids = modality.likelihood == "categorical"
    stays_ids = ids and (likelihood not in COUNTS or bool(modality.words))
    return stays_ids or (modality.counts and likelihood not in COUNTS)


def _read_by(modality: Modality, likelihood: Family | None, scale: float | None) -> Modality:
    """The modality with another likelihood or scale, where it takes it.

    Raises:
        ValueError: a scale for a likelihood without one.
    """
    if _keeps_likelihood(modality, likelihood):
        return modality
    family = likelihood or modality.likelihood
    if family not in ("normal", "laplace") and scale is not None:
        named = "Bernoulli" if family == "bernoulli" else family
        raise ValueError(
            f"modality {modality.name!r}: a {named} likelihood has no scale, got {scale}; leave it out"
        )
    kept = modality.scale if likelihood is None and scale is None else scale
    return replace(modality, likelihood=family, scale=kept, classes=None)
