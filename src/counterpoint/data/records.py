"""What a data set is: arrays by modality, which rows are there, labels, and three
splits of them.

Everything is validated once, when a :class:`Split` is made, so that taking a batch is
only indexing and one conversion.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

from counterpoint.core.batch import Batch
from counterpoint.core.conversion import (
    Conversion,
    conversions,
    converted_covariates,
    with_covariates,
)
from counterpoint.core.modality import COUNTS, Modality, covariates_of
from counterpoint.core.reading import as_mask, to_tensors, wrong_row
from counterpoint.data.images import Pictures

if TYPE_CHECKING:
    from counterpoint.data.streams import Stream

Array = np.ndarray
Family = Literal["normal", "laplace", "bernoulli", "beta", "nb", "zinb"]
Missing = Literal["random", "block"]
Rows = np.ndarray | slice
COVARIATES = "covariates/columns"
"""Name of the array that holds all covariates of a split, as they are, in a prepared
folder; its modalities name them."""
_BLOCK = 4096  # rows read together for a checksum


@dataclass(frozen=True)
class Split:
    """The rows of one split.

    Args:
        x: values by modality, each ``(N, *shape)``: uint8 images on [0, 255], floats,
            integer word ids, or counts of any dtype. Memory-mapped arrays stay on disk,
            and :class:`~counterpoint.data.images.Pictures` in their files. A modality
            that is left out is absent in every row.
        modalities: what the values look like; fixes the order.
        present: by modality, ``(N,)`` bool; a modality that is left out is there in
            every row.
        shared_labels: by label, ``(N,)`` integers, for what all modalities have in
            common.
        private_labels: by label, then by modality, ``(N,)`` integers.
        covariates: what decoders may read beside the latents, such as the experimental
            batch, ``(N, C)`` numbers; C = 0 without any.
        covariate_names: of the C columns. A modality names all of them, if its decoder
            reads them, or none.
        ids: what the rows are called where they were read, ``(N,)`` text, or None;
            results go back there by it.

    Raises:
        ValueError: no rows, mismatched lengths, a wrong shape, an unknown modality, NaN
            or infinity in a present row (but for NaN in some of the entries of a
            modality with gaps), ids out of the vocabulary, counts that are negative or
            no whole numbers, proportions outside [0, 1], or a row in which every
            modality is missing. Memory-mapped arrays are checked batch by batch
            instead.
        TypeError: values, masks or labels of a dtype that does not fit.
    """

    x: dict[str, Array]
    modalities: tuple[Modality, ...]
    present: dict[str, Array] = field(default_factory=dict)
    shared_labels: dict[str, Array] = field(default_factory=dict)
    private_labels: dict[str, dict[str, Array]] = field(default_factory=dict)
    covariates: Array = field(default=None)  # type: ignore[arg-type]  # (N, 0), once the number of rows is known
    covariate_names: tuple[str, ...] = ()
    ids: Array | None = None

    def __post_init__(self) -> None:
        modalities = tuple(self.modalities)
        names = [m.name for m in modalities]
        if not modalities or not self.x:
            raise ValueError("a split needs at least one modality with values")
        if len(set(names)) < len(names):
            raise ValueError(
                f"modality names repeat in {', '.join(names)}; give each modality its own name"
            )
        per_modality = [
            ("x", self.x),
            ("present", self.present),
            *((f"label {k!r}", v) for k, v in self.private_labels.items()),
        ]
        for what, given in per_modality:
            unknown = [name for name in given if name not in names]
            if unknown:
                raise ValueError(
                    f"{what} names unknown modality {unknown[0]!r}; the modalities are {', '.join(names)}"
                )
        rows = len(next(iter(self.x.values())))
        if rows == 0:
            raise ValueError("a split is empty; give it at least one row")
        lengths = {name: len(values) for name, values in self.x.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"modalities have different numbers of rows: {lengths}; mark missing rows in 'present' instead of leaving them out"
            )
        present = {
            name: _mask(name, self.present.get(name), rows, name in self.x) for name in names
        }
        x = {m.name: _values(m, self.x.get(m.name), present[m.name]) for m in modalities}
        missing = ~np.logical_or.reduce(list(present.values()))
        if missing.any():
            raise ValueError(
                f"row {int(missing.argmax())} has every modality missing; drop such rows from the data"
            )
        shared = {
            label: _label(label, values, rows) for label, values in self.shared_labels.items()
        }
        private = {
            label: {
                name: _label(f"{label}/{name}", values, rows)
                for name, values in by_modality.items()
            }
            for label, by_modality in self.private_labels.items()
        }
        ids = None if self.ids is None else np.asarray(self.ids, str)
        if ids is not None and ids.shape != (rows,):
            raise ValueError(f"ids have shape {ids.shape}, expected ({rows},)")
        for key, value in {
            "modalities": modalities,
            "x": x,
            "present": present,
            "shared_labels": shared,
            "private_labels": private,
            "covariates": _covariates(
                self.covariates, tuple(self.covariate_names), modalities, rows
            ),
            "covariate_names": tuple(self.covariate_names),
            "ids": ids,
        }.items():
            object.__setattr__(self, key, value)

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    @property
    def complete(self) -> Array:
        """Indices of the rows that have every modality, (n,)."""
        return np.flatnonzero(np.logical_and.reduce([*self.present.values()]))

    def batch(self, index: Rows, device: torch.device | str | None = None) -> Batch:
        """The chosen rows as tensors on ``device``: images in [0, 1], vectors float32,
        ids int64, zeros where absent.

        Values travel in the dtype in which they are stored and are converted once,
        there.
        """
        x, present, entries = {}, {}, {}
        for modality in self.modalities:
            name, stored = modality.name, self.x[modality.name]
            here, values = np.array(self.present[name][index]), np.array(stored[index])
            if isinstance(stored, np.memmap) and (wrong := wrong_row(modality, values, here)):
                row = int(np.arange(len(self))[index][wrong[0]])
                raise ValueError(f"modality {name!r}: row {row} {wrong[1]}")
            x[name], present[name], there = to_tensors(modality, values, here, device)
            if there is not None:
                entries[name] = there
        covariates = torch.from_numpy(np.array(self.covariates[index])).to(device)
        return Batch(x, present, covariates, entries, self.modalities)

    def read_as(self, modalities: Sequence[Modality]) -> Split:
        """The split as a model of these modalities reads it, and itself where nothing
        differs (:mod:`counterpoint.core.conversion`). What differs is converted in
        memory.

        Raises:
            ValueError: the first thing that differs and can't be converted.
        """
        asked = tuple(modalities)
        if self.modalities == asked:
            return self
        by_name = {c.asked.name: c for c in conversions(asked, self.modalities)}
        x = {name: _converted(c, self.x[name], self.present[name]) for name, c in by_name.items()}
        mine, theirs = with_covariates(asked), with_covariates(self.modalities)
        if theirs.covariates != self.covariate_names:  # no decoder was to read them
            theirs = replace(theirs, covariates=self.covariate_names, covariate_units=())
        if mine.covariates and not self.covariate_names:
            raise ValueError(
                f"the data have no covariates, and the model reads {', '.join(mine.covariates)}; give them (batch=, covariates=)"
            )
        columns = converted_covariates(mine, theirs, torch.from_numpy(self.covariates)).numpy()
        names = mine.covariates or self.covariate_names
        return replace(self, x=x, modalities=asked, covariates=columns, covariate_names=names)

    def batches(self, size: int, device: torch.device | str | None = None) -> Iterator[Batch]:
        """All rows in order, ``size`` at a time; the last batch may be short."""
        if size < 1:
            raise ValueError(f"batch size {size} must be 1 or more")
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), device)

    def take(self, index: Rows) -> Split:
        """The split of the chosen rows. An index array reads them into memory; a slice
        does not copy."""
        return replace(
            self,
            x={k: v[index] for k, v in self.x.items()},
            present={k: v[index] for k, v in self.present.items()},
            shared_labels={k: v[index] for k, v in self.shared_labels.items()},
            private_labels={
                label: {k: v[index] for k, v in by.items()}
                for label, by in self.private_labels.items()
            },
            covariates=self.covariates[index],
            ids=None if self.ids is None else self.ids[index],
        )

    def with_missing(
        self,
        fraction: float,
        seed: int = 0,
        how: Missing = "random",
        among: Sequence[str] | None = None,
    ) -> Split:
        """The same rows with a fraction of the values of each modality missing, but
        never all of a row.

        A row that would lose everything keeps one of its values, so that somewhat fewer
        are missing when ``fraction`` is large.

        Args:
            how: ``"random"``: each value with this probability, independently.
                ``"block"``: one run of the rows in their order, which may go on from
                the last to the first. The runs of M modalities begin an M-th of the
                rows apart, in random order and from a random row on, as where each site
                or each year lacks another instrument; up to (M − 1)/M no row loses
                everything.
            among: modalities that may go missing; all by default.

        Raises:
            ValueError: ``fraction`` outside [0, 1], or an unknown ``how`` or modality.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction {fraction} of missing values must lie in [0, 1]")
        if how not in get_args(Missing):
            raise ValueError(
                f"how={how!r} is unknown; choose one of {', '.join(get_args(Missing))}"
            )
        names = [m.name for m in self.modalities]
        unknown = [name for name in among or () if name not in names]
        if unknown:
            raise ValueError(f"among names {unknown[0]!r}; the modalities are {', '.join(names)}")
        had = np.stack([self.present[name] for name in names], 1)
        luck = np.full(had.shape, 2.0)
        touched = [i for i, name in enumerate(names) if among is None or name in among]
        luck[:, touched] = _luck(len(self), len(touched), how, np.random.default_rng(seed))
        keep = had & (luck >= fraction)
        kept_one = np.arange(len(names)) == np.where(had, luck, -1.0).argmax(1)[:, None]
        keep |= kept_one & ~keep.any(1, keepdims=True)
        return replace(self, present={name: keep[:, i] for i, name in enumerate(names)})


@dataclass(frozen=True)
class Dataset:
    """Three splits of the same modalities.

    Attributes:
        train: rows to learn from, in memory or on disk: a split, or a
            :class:`~counterpoint.data.Stream`.
        notes: what a reader of results must know, e.g. where the backgrounds come from.
        digest: checksum known beforehand (prepared sets bring it in their manifest).
    """

    name: str
    modalities: tuple[Modality, ...]
    train: Split | Stream
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
        """Training rows in memory, for who looks at them beside training: all of a
        split, a sample of a stream."""
        return self.train if isinstance(self.train, Split) else self.train.sample()

    def splits(self) -> dict[str, Split]:
        """The splits by name, in the order train, val, test.

        Raises:
            ValueError: train is a stream, of which there is no split.
        """
        if not isinstance(self.train, Split):
            raise ValueError(
                f"the {len(self.train):,} training rows of {self.name!r} are a stream, and all are wanted in memory; give a data set of arrays"
            )
        return {"train": self.train, "val": self.val, "test": self.test}

    def with_likelihood(
        self, likelihood: Family | None = None, scale: float | None = None
    ) -> Dataset:
        """The same values, read by another likelihood: of every modality but word ids
        and counts, which know likelihoods of counts alone.

        Args:
            likelihood: ``"normal"``, ``"laplace"``, ``"bernoulli"`` (values in [0, 1];
                no density of grey values, so that its log-likelihoods compare with
                nothing else), ``"beta"`` (values in [0, 1]), ``"nb"`` or ``"zinb"``
                (counts; integers without words, which are word ids until somebody says
                so, are counts, too); None keeps each modality's own.
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

        def keeps(modality: Modality) -> bool:
            ids = modality.likelihood == "categorical"
            return (ids and (likelihood not in COUNTS or bool(modality.words))) or (
                modality.counts and likelihood not in COUNTS
            )

        if all(map(keeps, self.modalities)):
            kinds = {"counts" if m.counts else "word ids" for m in self.modalities}
            raise ValueError(
                f"{self.name!r} holds {' and '.join(sorted(kinds))} alone, which keep their own likelihood; leave likelihood and scale out"
            )

        def read(modality: Modality) -> Modality:
            if keeps(modality):
                return modality
            family = likelihood or modality.likelihood
            if family not in ("normal", "laplace") and scale is not None:
                named = "Bernoulli" if family == "bernoulli" else family
                raise ValueError(
                    f"modality {modality.name!r}: a {named} likelihood has no scale, got {scale}; leave it out"
                )
            kept = modality.scale if likelihood is None and scale is None else scale
            return replace(modality, likelihood=family, scale=kept, classes=None)

        modalities = tuple(map(read, self.modalities))
        train = replace(self.train, modalities=modalities)
        val, test = (replace(part, modalities=modalities) for part in (self.val, self.test))
        return replace(self, modalities=modalities, train=train, val=val, test=test)

    def read_as(self, modalities: Sequence[Modality]) -> Dataset:
        """The data as a model of these modalities reads them, and themselves where
        nothing differs (:mod:`counterpoint.core.conversion`). Modalities that the data
        lack are absent in every row.

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
        """The same rows in other splits; rows that are not wanted are left out.

        Args:
            wanted: keys of the rows of "train", "val" and "test". Those that the data
                lack are passed over.
            keys: of the rows as they are divided now.

        Raises:
            ValueError: a split that would be empty.
        """
        whole = joined([*self.splits().values()])
        place = {
            key: row for row, key in enumerate(key for part in self.splits() for key in keys[part])
        }
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
        """The same data with training values hidden, see :meth:`Split.with_missing`;
        validation and test stay as they are."""
        train = self.splits()["train"].with_missing(fraction, seed, how)
        digest = self.digest and f"{self.digest}-missing-{fraction}-{seed}" + "-block" * (
            how == "block"
        )
        told = {
            "random": f"each training value hidden with probability {fraction}",
            "block": f"runs of {fraction} of the training rows hidden",
        }
        return replace(self, train=train, notes={**self.notes, "missing": told[how]}, digest=digest)

    def with_gaps(
        self, fraction: float, seed: int = 0, among: Sequence[str] | None = None
    ) -> Dataset:
        """The same data with single entries of training vectors hidden, each with
        probability ``fraction``, but never all that a row has of a modality; validation
        and test stay as they are.

        Args:
            among: modalities that get gaps; by default all vectors but word ids and
                counts.

        Raises:
            ValueError: ``fraction`` outside [0, 1], or a modality that can't have gaps.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction {fraction} of missing entries must lie in [0, 1]")
        able = [
            m.name
            for m in self.modalities
            if len(m.shape) == 1 and m.likelihood != "categorical" and not m.counts
        ]
        chosen = able if among is None else list(among)
        if unable := [name for name in chosen if name not in able]:
            raise ValueError(
                f"entries of {unable[0]!r} can't be hidden; vectors that can have gaps are {', '.join(able) or 'none'}"
            )
        if not chosen:
            raise ValueError(
                f"no entries to hide: {self.name!r} has no vector that can have gaps, or none is named"
            )
        rng = np.random.default_rng(seed)
        whole = self.splits()["train"]
        x = {
            m.name: _with_gaps(m, whole.x[m.name], fraction, rng)
            for m in self.modalities
            if m.name in chosen
        }
        modalities = tuple(replace(m, gaps=m.gaps or m.name in chosen) for m in self.modalities)
        train = replace(whole, x={**whole.x, **x}, modalities=modalities)
        val, test = (replace(split, modalities=modalities) for split in (self.val, self.test))
        notes = {
            **self.notes,
            "missing": f"each training entry of {', '.join(chosen)} hidden with probability {fraction}",
        }
        digest = self.digest and f"{self.digest}-gaps-{fraction}-{seed}-{','.join(chosen)}"
        return replace(
            self, modalities=modalities, train=train, val=val, test=test, notes=notes, digest=digest
        )

    def checksum(self) -> str:
        """A stable hexadecimal checksum of the modalities, values, masks, labels and
        covariates of all splits (SHA-256); of a prepared set, as prepared."""
        if self.digest is not None:
            return self.digest
        total = hashlib.sha256(
            json.dumps([m.identity() for m in self.modalities], sort_keys=True).encode()
        )
        for part, split in self.splits().items():
            private = {
                f"label/{label}/{k}": v
                for label, by in split.private_labels.items()
                for k, v in by.items()
            }
            shared = {f"label/{label}": v for label, v in split.shared_labels.items()}
            masks = {f"present/{k}": v for k, v in split.present.items()}
            covariates = {COVARIATES: split.covariates} if split.covariate_names else {}
            arrays: Mapping[str, Array] = {**split.x, **masks, **shared, **private, **covariates}
            for key in sorted(arrays):
                total.update(f"{part}/{key}:{arrays[key].dtype.str}{arrays[key].shape}".encode())
                for start in range(0, len(split), _BLOCK):
                    total.update(np.ascontiguousarray(arrays[key][start : start + _BLOCK]).data)
        return total.hexdigest()


def joined(splits: Sequence[Split]) -> Split:
    """The rows of several splits of the same modalities, one after the other, in
    memory."""
    first = splits[0]

    def together(arrays: Sequence[Array]) -> Array:
        return np.concatenate([np.asarray(array) for array in arrays])

    return replace(
        first,
        x={name: together([s.x[name] for s in splits]) for name in first.x},
        present={name: together([s.present[name] for s in splits]) for name in first.present},
        shared_labels={
            label: together([s.shared_labels[label] for s in splits])
            for label in first.shared_labels
        },
        private_labels={
            label: {name: together([s.private_labels[label][name] for s in splits]) for name in by}
            for label, by in first.private_labels.items()
        },
        covariates=together([s.covariates for s in splits]),
        ids=None if first.ids is None else together([np.asarray(s.ids) for s in splits]),
    )


def _luck(rows: int, columns: int, how: Missing, rng: np.random.Generator) -> Array:
    """Numbers in [0, 1), (rows, columns), of which those below a fraction are missing:
    random, or in each column how far a row is from where its run begins."""
    if how == "random":
        return rng.random((rows, columns))
    place = (np.arange(rows) + rng.integers(rows)) / rows
    return (place[:, None] - rng.permutation(columns) / max(columns, 1)) % 1


def _with_gaps(
    modality: Modality, values: Array, fraction: float, rng: np.random.Generator
) -> Array:
    """Vectors (N, features) as floats, NaN where they are hidden or were before."""
    read = replace(modality, gaps=False).read(torch.from_numpy(np.array(values))).numpy().copy()
    luck = np.where(np.isnan(read), -1.0, rng.random(read.shape))
    hidden = (luck < fraction) & (luck < luck.max(1, keepdims=True))
    read[hidden] = np.nan
    return read


def _mask(name: str, given: Array | None, rows: int, has_values: bool) -> Array:
    if given is None:
        return np.full(rows, has_values)
    mask = as_mask(name, given, rows)
    if mask.any() and not has_values:
        raise ValueError(
            f"'present' names {name!r}, which has no values; give values for it or mark it absent"
        )
    return mask


def _values(modality: Modality, given: Array | None, present: Array) -> Array:
    categorical = modality.likelihood == "categorical"
    if given is None:  # a broadcast zero costs no memory
        zero = np.zeros((1, *modality.shape), modality.dtype)
        return np.broadcast_to(zero, (len(present), *modality.shape))
    values = given if isinstance(given, np.memmap | Pictures) else np.asarray(given)
    if values.dtype.kind not in ("iu" if categorical else "uif"):
        kind = "integers" if categorical else "uint8, integers or floats"
        raise TypeError(
            f"modality {modality.name!r}: dtype {values.dtype} is not supported; give {kind}"
        )
    if values.shape[1:] != modality.shape:
        raise ValueError(
            f"modality {modality.name!r}: rows have shape {values.shape[1:]}, expected {modality.shape}"
        )
    if not isinstance(values, np.memmap) and (wrong := wrong_row(modality, values, present)):
        raise ValueError(f"modality {modality.name!r}: row {wrong[0]} {wrong[1]}")
    return values


def _converted(conversion: Conversion, stored: Array, present: Array) -> Array:
    """Stored values as another modality reads them; NaN where an entry is missing."""
    if not conversion.needed:
        return stored
    seen, here, entries = to_tensors(conversion.given, np.asarray(stored), present)
    values, there = conversion(seen, entries, here)
    if there is not None:
        values = values.masked_fill(~there & here.view(-1, *[1] * (values.ndim - 1)), np.nan)
    return values.numpy()


def _covariates(
    given: Array | None, names: tuple[str, ...], modalities: tuple[Modality, ...], rows: int
) -> Array:
    if (read := covariates_of(modalities)) and read != names:
        raise ValueError(
            f"decoders are to read the covariates {', '.join(read)}, and the data have {', '.join(names) or 'none'}; name all of them"
        )
    values = np.zeros((rows, 0), np.float32) if given is None else np.asarray(given, np.float32)
    if values.shape != (rows, len(names)):
        raise ValueError(
            f"covariates have shape {values.shape}, expected ({rows}, {len(names)}): a column for each of their names"
        )
    good = np.isfinite(values).all(1)
    if not good.all():
        raise ValueError(
            f"row {int(good.argmin())} has a covariate of NaN or infinity; fill it in, or drop the row"
        )
    return values


def _label(name: str, given: Array, rows: int) -> Array:
    label = np.asarray(given)
    if label.dtype.kind not in "iub":
        raise TypeError(
            f"label {name!r} has dtype {label.dtype}, expected integers (class numbers)"
        )
    if label.shape != (rows,):
        raise ValueError(f"label {name!r} has shape {label.shape}, expected ({rows},)")
    return label.astype(np.int64)
