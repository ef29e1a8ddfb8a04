"""Parts that all networks share: trunks, modules by modality, batch normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.core.modality import Modality

Norm = Literal["none", "batch"]
"""Normalisation in the trunks of encoders."""


class ByName(nn.ModuleDict):
    """Modules by the name of a modality.

    ``nn.ModuleDict`` refuses names that its methods have, such as ``type`` or ``keys``;
    this dictionary takes them.
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        self._modules[name] = module  # type: ignore[assignment]  # as torch's own does


class VectorsByName(nn.ParameterDict):
    """Parameters by the name of a modality; takes every name, as :class:`ByName`."""

    def __setitem__(self, key: str, value: nn.Parameter) -> None:
        self._keys[key] = None
        self._parameters[key] = value

    def __getitem__(self, key: str) -> nn.Parameter:
        return cast(nn.Parameter, self._parameters[key])


@contextmanager
def weights_from(seed: int) -> Iterator[None]:
    """Draw initial weights from a seed, and restore torch's own generators afterwards.

    Raises:
        ValueError: a seed that is not a whole number of 0 or more.
    """
    if not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
        raise ValueError(f"seed={seed!r} must be a whole number of 0 or more")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(int(seed))
        yield


class Trunk(nn.Module):
    """A network from values (B, *shape) to features (B, ``features``)."""

    features: int


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of vectors or maps.

    A batch of fewer than two rows takes the running statistics and does not move them.
    A modality that one row of a batch has can then be trained, and one that no row has
    changes nothing.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) < 2:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


@contextmanager
def untracked(network: nn.Module) -> Iterator[None]:
    """Normalise by each batch's own statistics without moving the running ones: for
    inputs that are not data."""
    layers = [layer for layer in network.modules() if isinstance(layer, BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def readable(modality: Modality, x: Tensor) -> Tensor:
    """Values (..., *shape) as networks read them.

    Counts of d features become log(1 + d x / Σ x), whose scale depends neither on the
    depth of sampling nor on the number of features; a row of zeros stays 0. Other
    values are unchanged. Differentiable.
    """
    if not modality.counts:
        return x
    return torch.log1p(x.shape[-1] * F.normalize(x, p=1, dim=-1))
