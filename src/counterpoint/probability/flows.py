"""Normalizing flows of latents: invertible maps f with log q(z) = log N(f(z); μ, σ) +
log |det ∂f/∂z|.

Densities take one pass of the networks, whatever the kind. Sampling inverts f: in one
pass per layer for ``"coupling"``, in D passes for the autoregressive ``"maf"`` and
``"nsf"``. Flows compute in full precision (:mod:`counterpoint.core.precision`): in half
precision the log-determinant would not be that of f, nor f⁻¹ its inverse. The maps are
zuko's (https://zuko.readthedocs.io).

    maf       masked autoregressive, affine         Papamakarios et al. 2017, https://arxiv.org/abs/1705.07057
    nsf       autoregressive, rational splines      Durkan et al. 2019, https://arxiv.org/abs/1906.04032
    coupling  affine coupling (RealNVP)             Dinh et al. 2017, https://arxiv.org/abs/1605.08803
    none      the identity: normal posteriors, whose products have a closed form, to compare with
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
import zuko
from torch import Tensor, nn
from torch.nn.utils import parametrize

from counterpoint.core import checks
from counterpoint.core.precision import full_precision
from counterpoint.probability.distributions import Bijection

FlowName = Literal["maf", "nsf", "coupling", "none"]


@dataclass(frozen=True)
class FlowOptions:
    """Size and kind of a flow.

    >>> import counterpoint as cp
    >>> cp.FlowOptions(transforms=4).kind
    'maf'

    Args:
        kind: ``"maf"``, ``"nsf"``, ``"coupling"``, or ``"none"`` for no flow at all.
        transforms: layers.
        hidden: widths of the hidden layers of each layer's network.
        conditional: let x act within every layer too, and not through the base's mean
            and scale alone.

    Raises:
        ValueError: an unknown kind, or a size below 1.
    """

    kind: FlowName = "maf"
    transforms: int = 2
    hidden: tuple[int, ...] = (128, 128, 128)
    conditional: bool = False

    def __post_init__(self) -> None:
        checks.record(self)
        if self.kind not in get_args(FlowName):
            raise ValueError(
                f"unknown flow {self.kind!r}; choose one of {', '.join(get_args(FlowName))}"
            )
        if self.transforms < 1 or not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"a flow needs transforms >= 1 and hidden widths >= 1, got {self.transforms} and {self.hidden}"
            )


class Flow(nn.Module):
    """An invertible map of D dimensions.

    >>> flow = Flow(2, 0, FlowOptions(hidden=(8,)))
    >>> z = torch.ones(1, 2)
    >>> u, log_det = flow().call_and_ladj(z)
    >>> torch.allclose(flow().inv(u), z, atol=1e-5)
    True

    Args:
        dim: D.
        context: number of features that condition it; 0 for none.
        options: its kind and sizes.

    Raises:
        ValueError: a coupling flow of one dimension, or the kind ``"none"``, which is
            no flow.
    """

    def __init__(self, dim: int, context: int, options: FlowOptions) -> None:
        super().__init__()
        self.dim = dim
        self.context = context
        self.build = (dim, context, options)
        if options.kind == "none":
            raise ValueError("kind 'none' asks for no flow; choose maf, nsf or coupling")
        if options.kind == "coupling" and dim < 2:
            raise ValueError(
                "a coupling flow splits its dimensions in two, so it needs 2 or more; use 'maf' or 'nsf' for one"
            )
        self.layers = _layers(dim, context, options)
        for network in [
            part for part in self.layers.modules() if isinstance(part, zuko.nn.MaskedMLP)
        ]:
            for i, layer in enumerate(network):
                if isinstance(layer, zuko.nn.MaskedLinear):
                    network[i] = _masked(layer)

    def forward(self, context: Tensor | None = None) -> Bijection:
        """The map f from z to the base, under a context (B, features)."""
        return _Exact(self.layers(context))


class _Exact:
    """A map in full precision (:mod:`counterpoint.core.precision`)."""

    def __init__(self, transform: Bijection) -> None:
        self.transform = transform

    def __call__(self, z: Tensor) -> Tensor:
        with full_precision(z):
            return self.transform(z)

    def inv(self, u: Tensor) -> Tensor:
        with full_precision(u):
            return self.transform.inv(u)

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        with full_precision(z):
            return self.transform.call_and_ladj(z)


class _Affine(zuko.flows.autoregressive.MaskedAutoregressiveTransform):  # type: ignore[misc]  # zuko has no types
    """An affine autoregressive layer whose network answers with all shifts, then all
    scales. zuko's answers with the two of each dimension side by
    side, which compiled programs read one number at a time: the gradient of a product
        of flows takes a fifth longer by it."""

    def __init__(self, dim: int, context: int, order: Tensor, hidden: tuple[int, ...]) -> None:
        super().__init__(dim, context, order=order, hidden_features=hidden)
        self.hyper[-1].mask = (
            self.hyper[-1].mask.unflatten(0, (dim, 2)).transpose(0, 1).flatten(0, 1).contiguous()
        )

    def meta(self, c: Tensor | None, x: Tensor) -> zuko.transforms.Transform:
        if c is not None:
            x = torch.cat(zuko.utils.broadcast(x, c, ignore=1), -1)
        shift, scale = self.hyper(x).chunk(2, -1)
        return zuko.transforms.DependentTransform(self.univariate(shift, scale), 1)


def _layers(dim: int, context: int, options: FlowOptions) -> nn.Module:
    """zuko's map, affine layers as above; those of one dimension have no order to keep,
    and zuko makes them otherwise."""
    if options.kind == "maf" and dim > 1:
        order = torch.arange(dim)
        layers = [
            _Affine(dim, context, order.flip(0) if i % 2 else order, options.hidden)
            for i in range(options.transforms)
        ]
        return zuko.lazy.LazyComposedTransform(*layers)
    kind = {"maf": zuko.flows.MAF, "nsf": zuko.flows.NSF, "coupling": zuko.flows.RealNVP}[
        options.kind
    ]
    return kind(
        dim, context, transforms=options.transforms, hidden_features=options.hidden
    ).transform


class _Mask(nn.Module):
    """The weights that an autoregressive order allows."""

    allowed: Tensor

    def __init__(self, allowed: Tensor) -> None:
        super().__init__()
        self.register_buffer("allowed", allowed, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        if (kept := _kept.get()) is None:
            return self.allowed * weight
        if self not in kept:
            kept[self] = self.allowed * weight
        return kept[self]


_kept: ContextVar[dict[_Mask, Tensor] | None] = ContextVar("kept", default=None)


@contextmanager
def masked_once() -> Iterator[None]:
    """Multiply the masks of flows into their weights once and not at every call, in
    this thread: ``parametrize.cached()`` does it for all threads at once, and the
    weights must not change.

    >>> flow = Flow(2, 0, FlowOptions(hidden=(8,))).requires_grad_(False)
    >>> with masked_once():
    ...     u, _ = flow().call_and_ladj(torch.ones(1, 2))
    >>> u.shape
    torch.Size([1, 2])
    """
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def _masked(layer: zuko.nn.MaskedLinear) -> nn.Linear:
    """The same layer with its mask as a parametrisation, which ``masked_once``
    multiplies in once and not at every call."""
    # Without weights of its own, which would have to be drawn first.
    linear = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(linear)
    linear.in_features = layer.in_features
    linear.out_features = layer.out_features
    linear.weight = layer.weight
    linear.bias = layer.bias
    parametrize.register_parametrization(linear, "weight", _Mask(layer.mask))
    return linear


def side_by_side(flows: Sequence[Flow]) -> Callable[[Tensor | None], Bijection]:
    """Flows of one build and of two or more dimensions as one, which takes no more
    calls than each of them. Weights are what they are now, and no gradient reaches
    them.

    >>> flows = [Flow(2, 0, FlowOptions(hidden=(8,))) for _ in range(3)]
    >>> z = torch.ones(3, 1, 2)
    >>> u, _ = side_by_side(flows)(None).call_and_ladj(z)
    >>> torch.allclose(u[1], flows[1]().call_and_ladj(z[1])[0], atol=1e-6)
    True

    Returns:
        From contexts (M, ..., features), or None, to the map of values (M, ..., D),
        flow i's of values i.

    Raises:
        ValueError: flows of different builds, or of one dimension, which may have no
            layers to stack.
    """
    builds = {flow.build for flow in flows}
    if len(builds) != 1 or flows[0].dim < 2:
        raise ValueError(
            f"only flows of one build and of two or more dimensions go side by side, got {sorted(map(str, builds))}"
        )
    layers = copy.deepcopy(flows[0].layers)
    for name, part in flows[0].layers.named_modules():
        if isinstance(part, nn.Linear | zuko.nn.Linear):
            parts = [cast(nn.Linear, flow.layers.get_submodule(name)) for flow in flows]
            layers.set_submodule(name, _Linears(parts))
    return lambda context: _Exact(layers(context))


class _Linears(nn.Module):
    """M linear layers of inputs (M, ..., features)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = (
            torch.stack([layer.weight.detach() for layer in layers]).transpose(1, 2).contiguous()
        )
        self.bias = torch.stack([layer.bias.detach() for layer in layers]).unsqueeze(1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.baddbmm(self.bias, x.flatten(1, -2), self.weight)
        return y.unflatten(1, x.shape[1:-1])
