"""Encoding: what the encoders say of a batch, each run once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from counterpoint.core.batch import Batch
from counterpoint.probability.distributions import Diagonal, Expert, Normal, scattered


class OnDemand(Mapping[str, Expert]):
    """A mapping whose values are asked of a function."""

    def __init__(self, names: Iterable[str], ask: Callable[[str], Expert]) -> None:
        self._names, self._ask = tuple(names), ask

    def __getitem__(self, name: str) -> Expert:
        return self._ask(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Joins(Protocol):
    """What an encoding asks of a rule (:class:`counterpoint.model.rules.Rule`)."""

    def joint(self, batch: Batch) -> Normal | None:
        """q(z | X) of a joint encoder, where there is one."""

    def alone(self, encoding: Encoding, name: str) -> Expert:
        """q(z | x_m): what the rule makes of one modality."""


class Encoding:
    """What the encoders say of a batch. Every encoder runs once, when somebody first
    asks what it says.

    Args:
        batch: the batch itself.
        encoders: by modality.
        rule: that joins what they say.

    Attributes:
        shared: q(z | x_m) by modality, parameters (B, D). Rows without the modality
            hold the unit distribution.
        trace: the refinement of what everything says, once somebody has made it
            (:mod:`counterpoint.inference.refinement`).
    """

    def __init__(self, batch: Batch, encoders: nn.ModuleDict, rule: Joins) -> None:
        self.batch, self.encoders, self.rule = batch, encoders, rule
        self.trace: object = None
        self._both = cache(
            lambda name: encode_present(encoders[name], batch.x[name], batch.present[name])
        )
        self.shared = OnDemand(encoders, lambda name: self._both(name)[0])

    @cached_property
    def private(self) -> dict[str, Diagonal]:
        """q(w_m | x_m) by modality, parameters (B, D_m); ``{}`` without private
        latents."""
        both = {name: self._both(name)[1] for name in self.encoders}
        return {name: w for name, w in both.items() if w is not None}

    @cached_property
    def joint(self) -> Normal | None:
        """q(z | X) of a joint encoder, or None."""
        return self.rule.joint(self.batch)

    def alone(self, name: str) -> Expert:
        """q(z | x_m): what the rule makes of one modality, parameters (B, D)."""
        return self.rule.alone(self, name)

    def members(self, given: Sequence[str]) -> Tensor:
        """(|given|, B) bool: which given modalities each row has."""
        return torch.stack([self.batch.present[name] for name in given])


def on_present(
    network: Callable[[Tensor], Tensor], x: Tensor, present: Tensor, absent: Tensor
) -> Tensor:
    """``network(x)`` on the rows that are there and ``absent`` (B, features) on the
    others, so that absent rows touch nothing: not even the statistics of a batch
    normalisation."""
    if bool(present.all()):
        return network(x)
    rows = present.nonzero().squeeze(-1)
    return (
        absent.clone()
        if len(rows) == 0
        else absent.index_copy(0, rows, network(x[rows]).to(absent.dtype))
    )


def encode_present(
    encoder: nn.Module, x: Tensor, present: Tensor
) -> tuple[Expert, Diagonal | None]:
    """Both posteriors of the rows that are there; absent rows hold the unit
    distribution, and touch nothing."""
    if bool(present.all()):
        return encoder(x)
    rows = present.nonzero().squeeze(-1)
    # A modality that no row of the batch has is encoded on one blank row, whose result is thrown
    # away.
    z, w = encoder(x[rows] if len(rows) else x[:1])
    return scattered(z, rows, len(x)), None if w is None else scattered(w, rows, len(x))
