"""Batch: observed values, and which of them are present.

Presence is always there, absent rows hold zeros, and a batch knows how its values were
read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoint.core import checks
from counterpoint.core.covariates import Covariates, columns
from counterpoint.core.modality import Modality, covariates_of
from counterpoint.core.reading import as_rows, to_tensors, wrong_row


@dataclass(frozen=True)
class Batch:
    """Observed values and which of them are there.

    Attributes:
        x: values by modality, each ``(B, *shape)``; rows that are absent hold zeros.
        present: by modality, ``(B,)`` bool.
        covariates: what decoders may read beside latents, such as the experimental
            batch, ``(B, C)`` float32; C = 0 where nothing is known of it.
        entries: of modalities with gaps, ``(B, *shape)`` bool: which entries are there,
            in rows that are; the others hold zeros.
        modalities: how the values were read; empty for a batch that somebody made by
            hand.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (2,)), cp.Modality("y", (1,))
    >>> x, y = [[1.0, 2.0], [3.0, 4.0]], [[5.0], [0.0]]
    >>> batch = cp.Batch.of({"x": x, "y": y}, {"y": [True, False]}, modalities=modalities)
    >>> batch
    Batch(2 rows: x (2,); y (1,), 1 present)
    >>> batch.only(["x"]).present["y"]
    tensor([False, False])
    """

    x: dict[str, Tensor]
    present: dict[str, Tensor]
    covariates: Tensor = field(default=None)  # type: ignore[assignment]  # (B, 0), once the number of rows is known
    entries: dict[str, Tensor] = field(default_factory=dict)
    modalities: tuple[Modality, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.covariates is None:
            object.__setattr__(
                self,
                "covariates",
                next(iter(self.present.values())).new_zeros(len(self), 0, dtype=torch.float32),
            )

    @staticmethod
    @checks.arguments
    def of(
        x: Mapping[str, Any],
        present: Mapping[str, Any] | None = None,
        *,
        modalities: Iterable[Modality],
        covariates: Covariates | None = None,
        device: torch.device | str | None = None,
    ) -> Batch:
        """Check, convert, move and zero-fill what ``modalities`` say how to read
        (:mod:`counterpoint.core.reading`).

        Whole numbers of images become floats in [0, 1]; word ids become int64. Tables
        are read by name. A modality of ``modalities`` that ``x`` lacks is absent in
        every row. NaN is missing in modalities with gaps. ``covariates`` are as
        :func:`~counterpoint.core.covariates.columns` reads them; None where nothing is
        known of them.

        Raises:
            ValueError: unknown modality, wrong shape, NaN or infinity in a present row,
                or nothing but NaN, mismatched lengths, ids out of the vocabulary,
                counts or proportions that are none, or a row in which every modality is
                absent.
            TypeError: a dtype that holds no numbers.
        """
        known = {m.name: m for m in modalities}
        unknown = [name for name in x if name not in known]
        if unknown:
            raise ValueError(
                f"unknown modality {unknown[0]!r}; this model knows {', '.join(known)}"
            )
        if not x:
            raise ValueError(f"no modality given; give at least one of {', '.join(known)}")
        stray = [name for name in present or {} if name not in x]
        if stray:
            raise ValueError(
                f"'present' names {stray[0]!r}, which has no values; give values for it or leave it out of 'present'"
            )
        arrays, masks = as_rows(x, present or {}, known)
        rows = len(next(iter(masks.values())))
        masks = {name: masks.get(name, np.zeros(rows, bool)) for name in known}
        empty = ~np.logical_or.reduce([*masks.values()])
        if empty.any():
            raise ValueError(
                f"row {int(empty.argmax())} has every modality missing; drop such rows before training or inference"
            )
        seen = {}
        here = {}
        entries = {}
        for name, modality in known.items():
            values = (
                arrays[name]
                if name in arrays
                else np.zeros((rows, *modality.shape), modality.dtype)
            )
            if wrong := wrong_row(modality, values, masks[name]):
                raise ValueError(f"modality {name!r}: row {wrong[0]} {wrong[1]}")
            seen[name], here[name], there = to_tensors(modality, values, masks[name], device)
            if there is not None:
                entries[name] = there
        batch = Batch(seen, here, entries=entries, modalities=tuple(known.values()))
        return (
            batch
            if covariates is None
            else replace(
                batch, covariates=columns(covariates, covariates_of(known.values()), rows, device)
            )
        )

    def __repr__(self) -> str:
        def count(here: Tensor) -> str:
            return "" if bool(here.all()) else f", {int(here.sum())} present"

        parts = (
            f"{name} {tuple(x.shape[1:])}{count(self.present[name])}" for name, x in self.x.items()
        )
        columns = self.covariates.shape[1]
        return f"Batch({len(self)} rows: {'; '.join(parts)}{f'; {columns} covariates' * (columns > 0)})"

    def __len__(self) -> int:
        return next(iter(self.present.values())).shape[0]

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        """The batch of the chosen rows."""
        return self._each(lambda values: values[rows])

    def to(self, device: torch.device | str) -> Batch:
        return self._each(lambda values: values.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed alike."""
        x = {name: change(values) for name, values in self.x.items()}
        present = {name: change(values) for name, values in self.present.items()}
        entries = {name: change(values) for name, values in self.entries.items()}
        return Batch(x, present, change(self.covariates), entries, self.modalities)

    def observed(self, name: str) -> Tensor:
        """(B, *shape) bool: which values of a modality are there."""
        here = (
            self.present[name].view(-1, *[1] * (self.x[name].ndim - 1)).expand(self.x[name].shape)
        )
        return here & self.entries[name] if name in self.entries else here

    def only(self, given: Iterable[str]) -> Batch:
        """The same rows with every modality outside ``given`` marked absent and zeroed.

        Raises:
            ValueError: an unknown name, no name at all, or a row that has none of the
                given modalities.
        """
        given = tuple(given)
        unknown = [name for name in given if name not in self.x]
        if unknown or not given:
            what = f"unknown modality {unknown[0]!r}" if unknown else "no modality given"
            raise ValueError(f"{what}; choose from {', '.join(self.x)}")
        present = {k: v if k in given else torch.zeros_like(v) for k, v in self.present.items()}
        empty = ~torch.stack(list(present.values())).any(0)
        if bool(empty.any()):
            raise ValueError(
                f"row {int(empty.nonzero()[0])} has none of the given modalities ({', '.join(given)})"
            )
        return replace(
            self,
            x={k: v if k in given else torch.zeros_like(v) for k, v in self.x.items()},
            present=present,
        )
