"""Unimodal encoders q(z | x_m) and q(w_m | x_m)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.core.modality import Modality
from counterpoint.nn.build import trunk
from counterpoint.nn.modules import Trunk
from counterpoint.nn.options import NetworkOptions
from counterpoint.nn.running import RunningMoments
from counterpoint.probability.distributions import Diagonal, Expert, Flowed, Normal, family
from counterpoint.probability.flows import Flow, FlowOptions

Towers = Literal["separate", "shared"]

MIN_SCALE = 1e-6
"""Smallest scale of a posterior."""


class Head(nn.Module):
    """Features (B, features) to a diagonal distribution with linear loc and scale =
    softplus + 1e-6.

    >>> Head(8, 2, "laplace")(torch.zeros(5, 8)).loc.shape
    torch.Size([5, 2])
    """

    def __init__(self, features: int, dim: int, posterior: str) -> None:
        super().__init__()
        self.family = family(posterior)
        self.linear = nn.Linear(features, 2 * dim)

    def forward(self, h: Tensor) -> Diagonal:
        loc, raw = self.linear(h).float().chunk(2, -1)
        return self.family(loc, F.softplus(raw) + MIN_SCALE)


class Encoder(nn.Module):
    """The encoder of one modality, to q(z | x) and, with private latents, to q(w | x).

    >>> from counterpoint.core.modality import Modality
    >>> encoder = Encoder(Modality("x", (3,)), 4, 2, networks=NetworkOptions(hidden=(8,)))
    >>> q, private = encoder(torch.zeros(5, 3))
    >>> q.loc.shape, private.loc.shape
    (torch.Size([5, 4]), torch.Size([5, 2]))

    Args:
        modality: what it reads.
        shared_dim: D.
        private_dim: D_m; 0 for no private latent.
        networks: kind and sizes of the trunks.
        towers: ``"separate"`` gives each latent a trunk of its own, ``"shared"`` one
            trunk with two heads.
        posterior: ``"normal"`` or ``"laplace"``.
    """

    def __init__(
        self,
        modality: Modality,
        shared_dim: int,
        private_dim: int,
        *,
        networks: NetworkOptions,
        posterior: str = "normal",
        towers: Towers = "separate",
    ) -> None:
        super().__init__()
        if towers not in ("separate", "shared"):
            raise ValueError(f"towers={towers!r} is unknown; choose 'separate' or 'shared'")
        self.towers = towers
        self.shared_trunk: Trunk = trunk(modality, networks)
        self.shared_head = Head(self.shared_trunk.features, shared_dim, posterior)
        self.private_trunk = (
            trunk(modality, networks) if private_dim and towers == "separate" else None
        )
        self.private_head = (
            Head(self.shared_trunk.features, private_dim, posterior) if private_dim else None
        )

    def shared(self, x: Tensor) -> Diagonal:
        """q(z | x), parameters (B, D)."""
        return self.shared_head(self.shared_trunk(x))

    def private(self, x: Tensor) -> Diagonal:
        """q(w | x), parameters (B, D_m)."""
        if self.private_head is None:
            raise ValueError("this encoder has no private latent")
        return self.private_head((self.private_trunk or self.shared_trunk)(x))

    def forward(self, x: Tensor) -> tuple[Diagonal, Diagonal | None]:
        """Both posteriors, each trunk run once."""
        if self.private_head is None:
            return self.shared(x), None
        if self.private_trunk is not None:
            return self.shared(x), self.private(x)
        h = self.shared_trunk(x)
        return self.shared_head(h), self.private_head(h)


class Projector(nn.Module):
    """g(x): a trunk and a linear map to the directions that modalities should share.

    >>> from counterpoint.core.modality import Modality
    >>> projector = Projector(Modality("x", (3,)), 2, networks=NetworkOptions(hidden=(8,)))
    >>> projector(torch.zeros(5, 3)).shape
    torch.Size([5, 2])

    Args:
        modality: what it reads.
        dim: number of directions.
        networks: kind and sizes of the trunk.
    """

    def __init__(self, modality: Modality, dim: int, *, networks: NetworkOptions) -> None:
        super().__init__()
        self.trunk = trunk(modality, networks)
        self.linear = nn.Linear(self.trunk.features, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim)."""
        return self.linear(self.trunk(x)).float()


class FlowEncoder(nn.Module):
    """q(z | x) as a flow: a diagonal normal with parameters from x, through an
    invertible map.

    The map is the same for every x, as in JNF, unless the options make it conditional.
    For a map that is the same, the encoder tracks the mean and variance of the base
    over its training rows (our choice). Through the map they give the marginal q(z),
    which products of posteriors divide out.

    >>> encoder = FlowEncoder(nn.Linear(3, 8), 8, 2, FlowOptions(hidden=(8,)))
    >>> q, _ = encoder(torch.zeros(5, 3))
    >>> q.rsample((10,)).shape
    torch.Size([10, 5, 2])

    Args:
        network: x to features, or g(x) to features.
        features: the number of features.
        dim: D.
        flow: kind and sizes of the map.
        projector: g; None to read x itself.
    """

    def __init__(
        self,
        network: nn.Module,
        features: int,
        dim: int,
        flow: FlowOptions,
        projector: Projector | None = None,
    ) -> None:
        super().__init__()
        self.projector = projector
        self.network = network
        self.head = Head(features, dim, "normal")
        self.flow = (
            None if flow.kind == "none" else Flow(dim, features if flow.conditional else 0, flow)
        )
        self.statistics = None if self.flow is None or flow.conditional else RunningMoments(dim)

    def forward(self, x: Tensor) -> tuple[Expert, None]:
        h = self.network(x if self.projector is None else self.projector(x))
        base = self.head(h)
        if self.flow is None:
            return base, None
        if self.statistics is not None and len(x) > 1:
            points = torch.cat([base.loc - base.scale, base.loc + base.scale])
            self.statistics(points)  # two points have the mean and variance of the base
        return Flowed(
            base, self.flow, h.float() if self.flow.context else None, self.marginal
        ), None

    @property
    def after_projection(self) -> list[nn.Module]:
        """All parts except the projector."""
        parts = (self.network, self.head, self.flow, self.statistics)
        return [part for part in parts if part is not None]

    @property
    def marginal(self) -> Normal | None:
        """The base over all rows, parameters (D,): E[μ] and √(E[σ²] + Var[μ]). None
        without a flow, and for a flow that depends on x."""
        if self.statistics is None:
            return None
        return Normal(self.statistics.mean.clone(), self.statistics.variance.sqrt())
