"""From one reading to another: values that were read as one modality says, as another
of the same name reads them.

    v = (s · σ_given + μ_given − μ_asked) / σ_asked

with features by name, and μ = 0, σ = 1 where values were not standardised; word ids by
what they stand for; covariates by name and in their units. What can't be converted is
refused, and the message names the first difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from counterpoint.core.reading import UNKNOWN_TOKENS, kind, places_of, wrong_row

if TYPE_CHECKING:
    from counterpoint.core.batch import Batch
    from counterpoint.core.modality import Modality

Array = np.ndarray


@dataclass(frozen=True)
class Conversion:
    """From values that were read as ``given`` says to values as ``asked`` reads them:
    of one modality.

    >>> from counterpoint import Modality
    >>> Conversion(Modality("x", (2,)), Modality("x", (2,))).needed
    False

    Raises:
        ValueError: the first thing that differs and can't be converted.
    """

    asked: Modality
    given: Modality

    def __post_init__(self) -> None:
        asked = self.asked
        given = self.given
        start = f"modality {asked.name!r}"
        binary_counts = asked.counts and given.likelihood == "bernoulli" and len(given.shape) == 1
        if kind(asked) != kind(given) and not binary_counts:
            raise ValueError(
                f"{start} holds {kind(given)} (likelihood {given.likelihood!r}), and the model reads {kind(asked)} ({asked.likelihood!r});"
                " name the likelihood that the model was trained with"
            )
        if (
            asked.likelihood != "categorical"
            and not (asked.features and given.features)
            and asked.shape != given.shape
        ):
            raise ValueError(f"{start}: rows have shape {given.shape}, expected {asked.shape}")
        if asked.units and not given.units and not given.features:
            raise ValueError(
                f"{start} was standardised when the model was made, and these values say neither their units nor their features;"
                " load them with the names of their features"
            )
        _ = self.places, self.words  # which refuse what they can't convert

    @cached_property
    def places(self) -> Array | None:
        """Where each feature of ``asked`` stands in ``given``; None where they are the
        same."""
        asked = self.asked
        given = self.given
        if not (asked.features and given.features) or asked.features == given.features:
            return None
        names = (*given.features, *(name for name, _ in given.constants))
        return places_of(
            asked, asked.features, {name: i for i, name in enumerate(names)}, asked.gaps
        )

    @cached_property
    def words(self) -> Tensor | None:
        """The id in ``asked`` of each id in ``given``; None where they are the same."""
        asked = self.asked
        given = self.given
        if asked.likelihood != "categorical" or (
            asked.words == given.words and asked.classes == given.classes
        ):
            return None
        if not (asked.words and given.words):
            raise ValueError(
                f"modality {asked.name!r} has ids of {given.classes} classes, expected {asked.classes}; encode the text by the model's vocabulary"
            )
        place = {word: i for i, word in enumerate(asked.words)}
        unknown = next((place[token] for token in UNKNOWN_TOKENS if token in place), -1)
        return torch.tensor([place.get(word, unknown) for word in given.words])

    @property
    def needed(self) -> bool:
        """Whether stored values are to change at all."""
        asked = self.asked
        given = self.given
        same = asked.full_scale == given.full_scale or not asked.unit
        return (
            not same
            or self.rescaled
            or self.places is not None
            or self.words is not None
            or asked.shape != given.shape
        )

    @cached_property
    def rescaled(self) -> bool:
        """Whether the two were standardised by other units."""
        given = self.given.units
        if self.places is not None and given:
            if (self.places >= len(given)).any():  # a constant, which comes as it was measured
                return True
            given = tuple(
                given[i] if i >= 0 else unit
                for i, unit in zip(self.places, self.asked.units or given, strict=False)
            )
        return self.asked.units != given

    def __call__(
        self, values: Tensor, entries: Tensor | None, present: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Values (N, *shape) and which entries are there, None where all are.

        Raises:
            ValueError: a row that lacks what ``asked`` needs.
        """
        asked = self.asked
        given = self.given
        if asked.likelihood == "categorical":
            return self._ids(values), None
        if self.rescaled:
            values = given.original(values)
        if self.places is not None:
            places = torch.from_numpy(self.places).to(values.device)
            same = values.new_tensor([value for _, value in given.constants]).expand(
                len(values), -1
            )
            there = torch.ones_like(values, dtype=torch.bool) if entries is None else entries
            values = torch.cat([values, same], 1)
            there = torch.cat([there, torch.ones_like(same, dtype=torch.bool)], 1)
            entries = there[:, places.clamp(min=0)] & (places >= 0)
            values = values[:, places.clamp(min=0)]
        if self.rescaled:
            values = asked.standardised(values)
        if entries is not None:
            values = values.masked_fill(~entries, 0)
            whole = (
                entries.flatten(1).any(1) if asked.gaps else entries.flatten(1).all(1)
            ) | ~present
            if not bool(whole.all()):
                row = int((~whole).nonzero()[0])
                raise ValueError(
                    f"modality {asked.name!r}: row {row} lacks entries, and the model was trained without gaps; impute them first"
                )
        values = values.masked_fill(~present.view(-1, *[1] * (values.ndim - 1)), 0)
        return values, entries if asked.gaps else None

    def _ids(self, ids: Tensor) -> Tensor:
        """Word ids by what they stand for, cut or padded to the length that ``asked``
        has."""
        if self.words is not None:
            ids = self.words.to(ids.device)[ids]
            if bool((ids < 0).any()):
                word = self.given.words[int((self.words < 0).nonzero()[0])]
                raise ValueError(
                    f"modality {self.asked.name!r}: word {word!r} is not in the model's vocabulary, which has nothing for unknown ones"
                )
        length = self.asked.shape[0]
        padding = max(0, length - ids.shape[1])
        return torch.nn.functional.pad(ids[:, :length], (0, padding))


def of_group(name: str) -> str:
    """What a column of covariates tells of: ``batch`` of ``batch=a``, and itself of a
    quantity.

    >>> of_group("batch=a"), of_group("age")
    ('batch', 'age')
    """
    return name.partition("=")[0]


def with_covariates(modalities: Sequence[Modality]) -> Modality:
    """A modality whose decoder reads covariates, if any does.

    >>> from counterpoint import Modality
    >>> with_covariates([Modality("x", (2,)), Modality("y", (1,), covariates=("age",))]).name
    'y'
    """
    return next((m for m in modalities if m.covariates), modalities[0])


def converted_covariates(asked: Modality, given: Modality, values: Tensor) -> Tensor:
    """Columns (N, C) as ``asked`` names and scales them.

    >>> from counterpoint import Modality
    >>> asked = Modality("x", (2,), covariates=("age", "dose"))
    >>> given = Modality("x", (2,), covariates=("dose", "age"))
    >>> converted_covariates(asked, given, torch.tensor([[1.0, 2.0]]))
    tensor([[2., 1.]])

    Raises:
        ValueError: a category that the model does not know, or a covariate that the
            data lack.
    """
    if (
        not asked.covariates
        or not given.covariates
        or not values.shape[1]
        or (asked.covariates == given.covariates and asked.covariate_units == given.covariate_units)
    ):
        return values
    known = {of_group(name) for name in asked.covariates}
    told = {of_group(name) for name in given.covariates}
    strange = [
        name
        for name in given.covariates
        if of_group(name) in known and name not in asked.covariates
    ]
    if strange:
        raise ValueError(
            f"covariate {strange[0]!r} is unknown to the model, which was trained with {', '.join(asked.covariates)}; leave such rows out"
        )
    lacking = [name for name in asked.covariates if of_group(name) not in told]
    if lacking:
        raise ValueError(
            f"the data lack covariate {of_group(lacking[0])!r}, which the model reads; give it, or leave out all covariates"
        )
    place = {name: i for i, name in enumerate(given.covariates)}
    made = values.new_zeros(len(values), len(asked.covariates))
    mine = asked.covariate_scales
    theirs = given.covariate_scales
    for i, name in enumerate(asked.covariates):
        if name in place:
            mean, std = theirs[place[name]]
            measured = values[:, place[name]] * std + mean
            own_mean, own_std = mine[i]
            made[:, i] = (measured - own_mean) / own_std
    return made


def conversions(asked: Sequence[Modality], given: Sequence[Modality]) -> list[Conversion]:
    """One for each modality that both have.

    >>> from counterpoint import Modality
    >>> asked, given = [Modality("x", (2,)), Modality("y", (1,))], [Modality("y", (1,))]
    >>> [each.asked.name for each in conversions(asked, given)]
    ['y']

    Raises:
        ValueError: a modality that the model does not know, or one that can't be
            converted.
    """
    known = {m.name: m for m in asked}
    unknown = [m.name for m in given if m.name not in known]
    if unknown:
        raise ValueError(f"unknown modality {unknown[0]!r}; this model knows {', '.join(known)}")
    return [Conversion(known[m.name], m) for m in given]


def read_as(batch: Batch, asked: Sequence[Modality]) -> Batch:
    """A batch as a model of these modalities reads it: itself where nothing differs.

    >>> from counterpoint import Batch, Modality
    >>> batch = Batch.of({"x": [[2.0]]}, modalities=[Modality("x", (1,))])
    >>> read_as(batch, [Modality("x", (1,))]) is batch
    True

    Raises:
        ValueError: the first thing that differs and can't be converted.
    """
    asked = tuple(asked)
    if not batch.modalities:
        return checked_by_hand(batch, asked)
    if batch.modalities is asked or batch.modalities == asked:
        return batch
    x = {}
    present = {}
    entries = {}
    blank = {
        m.name: torch.zeros(len(batch), *m.shape, device=batch.covariates.device)
        for m in asked
        if m.name not in batch.x
    }
    by_name = {c.asked.name: c for c in conversions(asked, batch.modalities)}
    for m in asked:
        if m.name in blank:
            x[m.name] = blank[m.name].long() if m.likelihood == "categorical" else blank[m.name]
            present[m.name] = torch.zeros(
                len(batch), dtype=torch.bool, device=batch.covariates.device
            )
            there = None
        else:
            x[m.name], there = by_name[m.name](
                batch.x[m.name], batch.entries.get(m.name), batch.present[m.name]
            )
            present[m.name] = batch.present[m.name]
        if m.gaps:
            entries[m.name] = (
                torch.ones_like(x[m.name], dtype=torch.bool) if there is None else there
            )
    covariates = converted_covariates(
        with_covariates(asked), with_covariates(batch.modalities), batch.covariates
    )
    return replace(
        batch, x=x, present=present, covariates=covariates, entries=entries, modalities=asked
    )


def checked_by_hand(batch: Batch, asked: tuple[Modality, ...]) -> Batch:
    """A batch that somebody made without ``Batch.of``, if it holds what a model of
    these modalities reads.

    >>> from counterpoint import Batch, Modality
    >>> batch = Batch({"x": torch.ones(2, 1)}, {"x": torch.tensor([True, True])})
    >>> checked_by_hand(batch, (Modality("x", (1,)),))
    Batch(2 rows: x (1,))

    Raises:
        ValueError: other modalities, shapes or numbers of rows. TypeError: other
            dtypes.
    """
    names = [m.name for m in asked]
    if {*batch.x} != {*names} or {*batch.present} != {*names}:
        raise ValueError(
            f"the batch has {', '.join(batch.x) or 'nothing'}, and the model knows {', '.join(names)}; make it by Batch.of"
        )
    if len(batch.covariates) != len(batch):
        raise ValueError(
            f"the batch has covariates of {len(batch.covariates)} rows, expected {len(batch)}; make it by Batch.of"
        )
    for m in asked:
        values = batch.x[m.name]
        here = batch.present[m.name]
        if not isinstance(values, Tensor) or not isinstance(here, Tensor):
            raise TypeError(
                f"modality {m.name!r}: the batch holds {type(values).__name__}, expected tensors; make it by Batch.of"
            )
        if tuple(values.shape) != (len(batch), *m.shape) or tuple(here.shape) != (len(batch),):
            raise ValueError(
                f"modality {m.name!r}: the batch holds shape {tuple(values.shape)}, expected {(len(batch), *m.shape)}; make it by Batch.of"
            )
        ids = m.likelihood == "categorical"
        if here.dtype != torch.bool:
            raise TypeError(
                f"modality {m.name!r}: 'present' of the batch holds {here.dtype}, expected bool; make it by Batch.of"
            )
        if values.is_floating_point() == ids:
            raise TypeError(
                f"modality {m.name!r}: the batch holds {values.dtype}, expected {'integers' if ids else 'floats'}; make it by Batch.of"
            )
        if wrong := wrong_row(
            m, (values if ids else values.float()).detach().cpu().numpy(), here.cpu().numpy()
        ):
            raise ValueError(f"modality {m.name!r}: row {wrong[0]} of the batch {wrong[1]}")
    return replace(
        batch,
        x={n: batch.x[n] for n in names},
        present={n: batch.present[n] for n in names},
        modalities=asked,
    )
