"""Encoding: the unimodal posteriors of a batch, each encoder run once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from counterpoint.core.batch import Batch
from counterpoint.probability.distributions import Diagonal, Expert, Normal, scattered


class OnDemand(Mapping[str, Expert]):
    """A mapping whose values come from a function.

    >>> asked = OnDemand(("x", "y"), lambda name: name.upper())
    >>> asked["y"], len(asked)
    ('Y', 2)
    """

    def __init__(self, names: Iterable[str], ask: Callable[[str], Expert]) -> None:
        self._names = tuple(names)
        self._ask = ask

    def __getitem__(self, name: str) -> Expert:
        return self._ask(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Joins(Protocol):
    """The part of a rule that an encoding needs
    (:class:`counterpoint.model.rules.Rule`).

    >>> from counterpoint.model.rules import MixtureRule
    >>> hasattr(MixtureRule(), "joint")
    True
    """

    def joint(self, batch: Batch) -> Normal | None:
        """q(z | X) of a joint encoder; None without one."""

    def alone(self, encoding: Encoding, name: str) -> Expert:
        """q(z | x_m) by the rule."""


class Encoding:
    """The unimodal posteriors of a batch. An encoder runs once, when its posterior is
    first needed.

    >>> import counterpoint as cp
    >>> method = cp.MVAE.from_config([cp.Modality("x", (3,))], {"shared_dim": 2})
    >>> batch = cp.Batch.of({"x": [[0.0, 0.0, 0.0]]}, modalities=method.modalities)
    >>> method.model.encode(batch).shared["x"].loc.shape
    torch.Size([1, 2])

    Args:
        batch: the batch itself.
        encoders: by modality.
        rule: joins the posteriors.

    Attributes:
        shared: q(z | x_m) by modality, parameters (B, D). Rows without the modality
            hold the unit distribution.
        trace: the refinement of the posterior given everything, after the first time
            it was computed (:mod:`counterpoint.inference.refinement`).
    """

    def __init__(self, batch: Batch, encoders: nn.ModuleDict, rule: Joins) -> None:
        self.batch = batch
        self.encoders = encoders
        self.rule = rule
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
        """q(z | x_m) by the rule, parameters (B, D)."""
        return self.rule.alone(self, name)

    def members(self, given: Sequence[str]) -> Tensor:
        """(|given|, B) bool: which given modalities each row has."""
        return torch.stack([self.batch.present[name] for name in given])


def on_present(
    network: Callable[[Tensor], Tensor], x: Tensor, present: Tensor, absent: Tensor
) -> Tensor:
    """``network(x)`` on present rows, and ``absent`` (B, features) on the others.

    Absent rows change nothing, not even the statistics of a batch normalisation.

    >>> x, present = torch.ones(2, 1), torch.tensor([True, False])
    >>> on_present(lambda x: 5 * x, x, present, torch.zeros(2, 1))
    tensor([[5.],
            [0.]])
    """
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
    """Both posteriors of present rows; absent rows hold the unit distribution.

    >>> from counterpoint import Modality, NetworkOptions
    >>> from counterpoint.model.encoders import Encoder
    >>> encoder = Encoder(Modality("x", (3,)), 2, 0, networks=NetworkOptions())
    >>> q, private = encode_present(encoder, torch.ones(2, 3), torch.tensor([True, False]))
    >>> q.loc[1], private
    (tensor([0., 0.], grad_fn=<SelectBackward0>), None)
    """
    if bool(present.all()):
        return encoder(x)
    rows = present.nonzero().squeeze(-1)
    # A modality that no row has is encoded on one blank row, whose result is discarded.
    z, w = encoder(x[rows] if len(rows) else x[:1])
    return scattered(z, rows, len(x)), None if w is None else scattered(w, rows, len(x))
