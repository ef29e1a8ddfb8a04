"""A split: arrays by modality, which rows are there, labels and covariates.

Everything is checked once, when a :class:`Split` is made. Taking a batch is then only
indexing and one conversion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from counterpoint.core.batch import Batch
from counterpoint.core.conversion import (
    Conversion,
    conversions,
    converted_covariates,
    with_covariates,
)
from counterpoint.core.display import html_lines
from counterpoint.core.modality import Modality
from counterpoint.core.reading import to_tensors, wrong_row
from counterpoint.data.checks import (
    check_names,
    covariate_columns,
    label_numbers,
    modality_values,
    presence,
    row_count,
    row_ids,
)
from counterpoint.data.display import described
from counterpoint.data.loader import BatchLoader, Shuffle
from counterpoint.data.missing import Missing, hidden_rows

Array = np.ndarray

COVARIATES = "covariates/columns"
"""Name of the array that holds all covariates of a split, as they are, in a prepared
folder; its modalities name them."""


@dataclass(frozen=True, repr=False)
class Split:
    """Hold the rows of one split.

    >>> ids = Modality("text", (2,), "categorical", None, classes=5)
    >>> split = Split({"text": np.array([[0, 4], [3, 1]])}, (ids,))
    >>> split
    Split of 2 rows
    text 2 categorical
    >>> split.batch([1]).x["text"]
    tensor([[3, 1]])

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
        names = tuple(self.covariate_names)
        if not modalities or not self.x:
            raise ValueError("a split needs at least one modality with values")
        by_label = {f"label {label!r}": by for label, by in self.private_labels.items()}
        check_names(modalities, {"x": self.x, "present": self.present, **by_label})
        rows = row_count(self.x)
        present = presence(modalities, self.x, self.present, rows)
        checked = {
            "modalities": modalities,
            "x": {
                m.name: modality_values(m, self.x.get(m.name), present[m.name]) for m in modalities
            },
            "present": present,
            "shared_labels": _label_numbers(self.shared_labels, rows),
            "private_labels": {
                label: _label_numbers(by_modality, rows, f"{label}/")
                for label, by_modality in self.private_labels.items()
            },
            "covariates": covariate_columns(self.covariates, names, modalities, rows),
            "covariate_names": names,
            "ids": row_ids(self.ids, rows),
        }
        for key, value in checked.items():
            object.__setattr__(self, key, value)

    def __repr__(self) -> str:
        return "\n".join([f"Split of {len(self):,} rows", *self._described()])

    def _repr_html_(self) -> str:
        return html_lines(f"Split of {len(self):,} rows", self._described())

    def _described(self) -> list[str]:
        """A line for each modality, then labels and covariates."""
        lines = []
        for modality in self.modalities:
            missing = len(self) - int(self.present[modality.name].sum())
            absent = f", missing in {missing:,} rows" if missing else ""
            lines.append(f"{described(modality)}{absent}")
        private = [f"{label} of {', '.join(by)}" for label, by in self.private_labels.items()]
        if labels := [*self.shared_labels, *private]:
            lines.append(f"labels: {'; '.join(labels)}")
        if self.covariate_names:
            lines.append(f"covariates: {', '.join(self.covariate_names)}")
        return lines

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    @property
    def complete(self) -> Array:
        """Indices of the rows that have every modality, (n,)."""
        return np.flatnonzero(np.logical_and.reduce([*self.present.values()]))

    @property
    def digest(self) -> str | None:
        """None: the checksum of a split is computed from its values."""
        return None

    def in_memory(self) -> Split:
        """Return the split itself."""
        return self

    def whole(self) -> Split:
        """Return the split itself."""
        return self

    def with_modalities(self, modalities: Sequence[Modality]) -> Split:
        """Return the same stored values, declared as other modalities."""
        return replace(self, modalities=tuple(modalities))

    def having(self, names: Sequence[str]) -> Split:
        """Return the rows that have any of the modalities.

        Raises:
            ValueError: there are none.
        """
        rows = np.flatnonzero(np.logical_or.reduce([self.present[name] for name in names]))
        if len(rows) == 0:
            raise ValueError(
                f"no row of train has {' or '.join(names)}; give rows from which to learn what they look like"
            )
        return self if len(rows) == len(self) else self.take(rows)

    def loader(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: Shuffle = True,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str | None = None,
    ) -> BatchLoader:
        """Return the batches of one process in training
        (:meth:`counterpoint.data.rows.Rows.loader`).

        Processes exchange vectors, so each needs as many rows as the others.

        Raises:
            ValueError: the rows do not fill one batch of all processes.
        """
        full, rest = divmod(len(self), batch_size * world_size)
        uneven = rest % world_size != 0
        if uneven and full == 0:
            raise ValueError(
                f"the {len(self)} rows do not fill one batch of {batch_size} × {world_size} processes; lower batch_size"
            )
        return BatchLoader(
            self,
            batch_size,
            seed=seed,
            shuffle=shuffle,
            drop_last=full > 0 and (rest < 2 * world_size or uneven),
            rank=rank,
            world_size=world_size,
            device=device,
        )

    def batch(self, index: Array | slice, device: torch.device | str | None = None) -> Batch:
        """Return the chosen rows as tensors on ``device``: images in [0, 1], vectors
        float32, ids int64, zeros where absent.

        Values travel in the dtype in which they are stored and are converted once,
        there.
        """
        x = {}
        present = {}
        entries = {}
        for modality in self.modalities:
            name = modality.name
            stored = self.x[modality.name]
            here = np.array(self.present[name][index])
            values = np.array(stored[index])
            if isinstance(stored, np.memmap) and (wrong := wrong_row(modality, values, here)):
                row = int(np.arange(len(self))[index][wrong[0]])
                raise ValueError(f"modality {name!r}: row {row} {wrong[1]}")
            x[name], present[name], there = to_tensors(modality, values, here, device)
            if there is not None:
                entries[name] = there
        covariates = torch.from_numpy(np.array(self.covariates[index])).to(device)
        return Batch(x, present, covariates, entries, self.modalities)

    def read_as(self, modalities: Sequence[Modality]) -> Split:
        """Return the split as a model of these modalities reads it
        (:mod:`counterpoint.core.conversion`). Values that differ are converted in
        memory.

        Raises:
            ValueError: the first thing that differs and can't be converted.
        """
        asked = tuple(modalities)
        if self.modalities == asked:
            return self
        by_name = {c.asked.name: c for c in conversions(asked, self.modalities)}
        x = {}
        for name, conversion in by_name.items():
            x[name] = _converted(conversion, self.x[name], self.present[name])
        mine = with_covariates(asked)
        theirs = with_covariates(self.modalities)
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
        """Yield all rows in order, ``size`` at a time. The last batch may be short."""
        if size < 1:
            raise ValueError(f"batch size {size} must be 1 or more")
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), device)

    def take(self, index: Array | slice) -> Split:
        """Return the split of the chosen rows. An index array reads them into memory; a
        slice does not copy."""
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
        """Hide a fraction of the values of each modality, but never all of a row.

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
        names = [m.name for m in self.modalities]
        unknown = [name for name in among or () if name not in names]
        if unknown:
            raise ValueError(f"among names {unknown[0]!r}; the modalities are {', '.join(names)}")
        present = np.stack([self.present[name] for name in names], 1)
        touched = [i for i, name in enumerate(names) if among is None or name in among]
        keep = hidden_rows(present, touched, fraction, seed, how)
        return replace(self, present={name: keep[:, i] for i, name in enumerate(names)})


def joined(splits: Sequence[Split]) -> Split:
    """Join the rows of several splits of the same modalities, in memory.

    >>> import counterpoint as cp
    >>> split = cp.data.Split({"x": np.ones((5, 1))}, (cp.Modality("x", (1,), "normal"),))
    >>> len(joined([split, split]))
    10
    """
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


def _converted(conversion: Conversion, stored: Array, present: Array) -> Array:
    """Stored values as another modality reads them; NaN where an entry is missing."""
    if not conversion.needed:
        return stored
    seen, here, entries = to_tensors(conversion.given, np.asarray(stored), present)
    values, there = conversion(seen, entries, here)
    if there is not None:
        rows = here.view(-1, *[1] * (values.ndim - 1))
        values = values.masked_fill(~there & rows, np.nan)
    return values.numpy()


def _label_numbers(labels: Mapping[str, Array], rows: int, prefix: str = "") -> dict[str, Array]:
    """The class numbers of each label; ``prefix`` is put before names in messages."""
    return {name: label_numbers(f"{prefix}{name}", values, rows) for name, values in labels.items()}
