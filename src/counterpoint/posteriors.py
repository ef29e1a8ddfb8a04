"""Posteriors q(z, w | x_S): unimodal encoders and the rule that joins them for a set S of modalities.

    Mixture             q(z|x_S) = 1/|S| Σ_{m∈S} q(z|x_m)                    Shi et al. 2019, https://arxiv.org/abs/1911.03393
    Product             q(z|x_S) ∝ p(z)^π ∏_{m∈S} q(z|x_m), π ∈ {0, 1}       Wu & Goodman 2018, https://arxiv.org/abs/1802.05335
    MixtureOfProducts   uniform mixture of the products of all subsets       Sutter et al. 2021, https://arxiv.org/abs/2105.02470
    Joint               q(z|X) has an encoder of its own; proper subsets     Suzuki et al. 2016, https://arxiv.org/abs/1611.01891
                        take the product of the unimodal posteriors

Every rule works row by row on what is present: S is the set of given modalities that the row has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from counterpoint import distributions as dist
from counterpoint.distributions import Diagonal, Normal, stacked
from counterpoint.encoders import Encoder, Head
from counterpoint.nn import NetworkOptions, mlp, trunk
from counterpoint.types import Batch, Modality


@dataclass(frozen=True)
class Encoding:
    """What the encoders say of a batch; every encoder has run once.

    Attributes:
        batch: the batch itself.
        shared: q(z | x_m) by modality, parameters (B, D). Rows without the modality hold the unit distribution.
        private: q(w_m | x_m) by modality, parameters (B, D_m); ``{}`` without private latents.
        joint: q(z | X) of a joint encoder, or None.
    """

    batch: Batch
    shared: dict[str, Diagonal]
    private: dict[str, Diagonal]
    joint: Diagonal | None = None

    def members(self, given: Sequence[str]) -> Tensor:
        """(|given|, B) bool: which given modalities each row has."""
        return torch.stack([self.batch.present[name] for name in given])


class Rule(nn.Module, ABC):
    """Joins what the encoders say of the given modalities into q(z | x_S)."""

    def joint(self, batch: Batch) -> Diagonal | None:
        """q(z | X) where the rule has a joint encoder."""
        return None

    @abstractmethod
    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> dist.Posterior:
        """q(z | x_S) for S = ``given``, parameters (B, D)."""


class Mixture(Rule):
    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> dist.Posterior:
        if len(given) == 1:
            return encoding.shared[given[0]]
        return dist.Mixture(stacked([encoding.shared[name] for name in given]), encoding.members(given))


class Product(Rule):
    """Args:
    prior_expert: whether N(0, I) takes part in every product (MVAE) or not (MVTCAE).
    """

    def __init__(self, prior_expert: bool) -> None:
        super().__init__()
        self.prior_expert = prior_expert

    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> Normal:
        experts, members = stacked([encoding.shared[name] for name in given]), encoding.members(given)
        return dist.product(*(_with_unit(experts, members) if self.prior_expert else (experts, members)))


class MixtureOfProducts(Rule):
    """All non-empty subsets of what is given; the N(0, I) expert joins the product of all modalities of the model, as in the
    authors' code. A row mixes the subsets whose members it all has."""

    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> dist.Posterior:
        if len(given) == 1:
            return encoding.shared[given[0]]
        subsets = [s for n in range(1, len(given) + 1) for s in combinations(range(len(given)), n)]
        members = encoding.members(given)  # (M, B)
        chosen = torch.zeros(len(subsets), len(given) + 1, dtype=torch.bool, device=members.device)  # (S, M + 1): N(0, I) is the last
        for i, subset in enumerate(subsets):
            chosen[i, list(subset)] = True
        allowed = (members | ~chosen[:, :-1].unsqueeze(-1)).all(1)  # (S, B)
        chosen[-1, -1] = len(given) == len(encoding.shared)
        experts = stacked([encoding.shared[name] for name in given])
        return dist.Mixture(dist.product(*_with_unit(experts, members), chosen), allowed)


class Joint(Rule):
    """A joint encoder for rows that have everything: trunks of its own, concatenated features, a two-layer head.

    Proper subsets, and rows that lack a modality, take the product of their unimodal posteriors (ours; the paper supposes complete data
    and leaves subsets open).

    Args:
        modalities: all modalities of the model.
        shared_dim: D.
        networks: kind and sizes of the trunks.
        hidden: width of the head's two layers.
    """

    def __init__(self, modalities: Sequence[Modality], shared_dim: int, *, networks: NetworkOptions, hidden: int = 512) -> None:
        super().__init__()
        trunks = {m.name: trunk(m, networks) for m in modalities}
        self.trunks = nn.ModuleDict(trunks)
        self.layers = mlp((sum(t.features for t in trunks.values()), hidden, hidden))
        self.head = Head(hidden, shared_dim, "normal")

    def joint(self, batch: Batch) -> Diagonal | None:
        """q(z | X) of the rows that have everything, and N(0, I) in the others; None where there is no such row."""
        rows = torch.stack([*batch.present.values()]).all(0).nonzero().squeeze(-1)
        if len(rows) == 0:
            return None
        features = [network(batch.x[name][rows]) for name, network in self.trunks.items()]
        return _scattered(self.head(self.layers(torch.cat(features, -1))), rows, len(batch))

    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> dist.Posterior:
        members = encoding.members(given)
        product = dist.product(stacked([encoding.shared[name] for name in given]), members)
        if len(given) < len(encoding.shared) or encoding.joint is None:
            return product
        complete = members.all(0).unsqueeze(-1)
        loc, scale = (torch.where(complete, getattr(encoding.joint, k), getattr(product, k)) for k in ("loc", "scale"))
        return Normal(loc, scale)


class Posterior(nn.Module):
    """Encoders and the rule that joins them.

    Args:
        encoders: by modality, in the model's order.
        rule: mixture, product, mixture of products or joint.
    """

    def __init__(self, encoders: Mapping[str, Encoder], rule: Rule) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.rule = rule

    def encode(self, batch: Batch) -> Encoding:
        """Run every encoder once, on the rows that have its modality."""
        shared: dict[str, Diagonal] = {}
        private: dict[str, Diagonal] = {}
        for name, encoder in self.encoders.items():
            z, w = encode_present(encoder, batch.x[name], batch.present[name])
            shared[name] = z
            if w is not None:
                private[name] = w
        return Encoding(batch, shared, private, self.rule.joint(batch))

    def condition(self, encoding: Encoding, given: tuple[str, ...]) -> dist.Posterior:
        """q(z | x_S), parameters (B, D)."""
        return self.rule(encoding, given)


def on_present(network: Callable[[Tensor], Tensor], x: Tensor, present: Tensor, absent: Tensor) -> Tensor:
    """``network(x)`` on the rows that are there and ``absent`` (B, features) on the others, so that absent rows touch nothing: not even
    the statistics of a batch normalisation."""
    if bool(present.all()):
        return network(x)
    rows = present.nonzero().squeeze(-1)
    return absent.clone() if len(rows) == 0 else absent.index_copy(0, rows, network(x[rows]).to(absent.dtype))


def encode_present(encoder: nn.Module, x: Tensor, present: Tensor) -> tuple[Diagonal, Diagonal | None]:
    """Both posteriors of the rows that are there; absent rows hold zeros and ones, and touch nothing."""
    if bool(present.all()):
        return encoder(x)
    rows = present.nonzero().squeeze(-1)
    # A modality that no row of the batch has is encoded on one blank row, whose result is thrown away.
    z, w = encoder(x[rows] if len(rows) else x[:1])
    return _scattered(z, rows, len(x)), None if w is None else _scattered(w, rows, len(x))


def _scattered(q: Diagonal, rows: Tensor, size: int) -> Diagonal:
    loc, scale = q.loc.new_zeros(size, q.loc.shape[-1]), q.scale.new_ones(size, q.scale.shape[-1])
    count = len(rows)
    return type(q)(loc.index_copy(0, rows, q.loc[:count]), scale.index_copy(0, rows, q.scale[:count]))


def _with_unit(experts: Diagonal, members: Tensor) -> tuple[Normal, Tensor]:
    """N(0, I) as one more expert, after the others, which every row has."""
    loc, scale = experts.loc, experts.scale
    unit = Normal(torch.cat([loc, torch.zeros_like(loc[:1])]), torch.cat([scale, torch.ones_like(scale[:1])]))
    return unit, torch.cat([members, torch.ones_like(members[:1])])
