"""Rules: how unimodal posteriors are joined into q(z | x_S) for a given set S.

    MixtureRule   q(z|x_S) = 1/|S| Σ_{m∈S} q(z|x_m)                    Shi et al. 2019, https://arxiv.org/abs/1911.03393
    ProductRule   q(z|x_S) ∝ p(z)^π ∏_{m∈S} q(z|x_m), π ∈ {0, 1}       Wu & Goodman 2018, https://arxiv.org/abs/1802.05335
    MoPoERule     uniform mixture of the products of all subsets       Sutter et al. 2021, https://arxiv.org/abs/2105.02470
    BayesRule     q(z|x_S) ∝ p(z) ∏_{m∈S} q(z|x_m) / q_m(z)            JNF 2025, https://arxiv.org/abs/2502.03952
    JointRule     q(z|X) has an encoder of its own; proper subsets     Suzuki et al. 2016, https://arxiv.org/abs/1611.01891
                  take another rule

Every rule works row by row: S is the set of given modalities that the row has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import combinations
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.model.encoders import Head
from counterpoint.model.encoding import Encoding, on_present
from counterpoint.nn.build import trunk
from counterpoint.nn.mlp import mlp
from counterpoint.nn.modules import ByName, VectorsByName
from counterpoint.nn.options import NetworkOptions
from counterpoint.probability import distributions as dist
from counterpoint.probability.combining import chosen, product_of_posteriors
from counterpoint.probability.distributions import Diagonal, Expert, Normal, scattered, stacked
from counterpoint.probability.mcmc import HMC


class Rule(nn.Module, ABC):
    """Joins the unimodal posteriors of the given modalities into q(z | x_S).

    A rule of your own overrides ``forward``. It is an argument of
    :func:`~counterpoint.methods.common.build` and of ``method.encode``.

    >>> class First(Rule):
    ...     def forward(self, encoding, given):
    ...         return encoding.alone(given[0])
    >>> import counterpoint as cp
    >>> model = cp.MVAE.from_config([cp.Modality("x", (3,))], {"shared_dim": 2}).model
    >>> batch = cp.Batch.of({"x": [[0.0, 0.0, 0.0]]}, modalities=model.modalities.values())
    >>> model.posterior.condition(model.encode(batch), ("x",), First()).loc.shape
    torch.Size([1, 2])
    """

    hmc = HMC()
    """How products without closed form are sampled."""

    def joint(self, batch: Batch) -> Normal | None:
        """q(z | X), parameters (B, D), of a rule with a joint encoder; else None."""
        return None

    def alone(self, encoding: Encoding, name: str) -> Expert:
        """q(z | x_m) by this rule, parameters (B, D)."""
        return encoding.shared[name]

    @abstractmethod
    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> dist.Posterior:
        """q(z | x_S) for S = ``given``, parameters (B, D)."""


class MixtureRule(Rule):
    """The uniform mixture of the experts that a row has.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> MixtureRule()(encoding, ("x", "y")).components.loc.shape  # one component a modality
    torch.Size([2, 5, 4])
    """

    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> dist.Posterior:
        if len(given) == 1:
            return encoding.shared[given[0]]
        return dist.Mixture(
            stacked([encoding.shared[name] for name in given]), encoding.members(given)
        )


PriorExpert = Literal["always", "complete", "never"]


class ProductRule(Rule):
    """The normalised product of the experts.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> q = ProductRule("always")(encoding, ("x", "y"))
    >>> bool((q.scale < encoding.shared["x"].scale).all())  # a product is narrower
    True

    Args:
        prior_expert: whether N(0, I) is an expert: ``"always"`` (MVAE), ``"never"``
            (MVTCAE), or ``"complete"`` (DMVAE): only in the product of all modalities
            of the model.

    Raises:
        ValueError: an unknown ``prior_expert``.
    """

    def __init__(self, prior_expert: PriorExpert) -> None:
        super().__init__()
        if prior_expert not in get_args(PriorExpert):
            raise ValueError(
                f"prior_expert={prior_expert!r} is unknown; choose one of {', '.join(get_args(PriorExpert))}"
            )
        self.prior_expert = prior_expert

    def alone(self, encoding: Encoding, name: str) -> Normal:
        return self(encoding, (name,))

    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> Normal:
        experts = stacked([encoding.shared[name] for name in given])
        members = encoding.members(given)
        if self.prior_expert == "never":
            return dist.product(experts, members)
        rows = torch.ones_like(members[0])
        if self.prior_expert == "complete":
            everything = len(given) == len(encoding.shared)
            rows = members.all(0) if everything else torch.zeros_like(members[0])
        return dist.product(*_with_unit(experts, members, rows))


class MoPoERule(Rule):
    """The uniform mixture of the products of all non-empty subsets of what is given.

    As in the authors' code, N(0, I) is an expert in the product of all modalities of
    the model. A row mixes the subsets of which it has every member.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> MoPoERule()(encoding, ("x", "y")).components.loc.shape  # x, y, and x with y
    torch.Size([3, 5, 4])
    """

    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> dist.Posterior:
        if len(given) == 1:
            return encoding.shared[given[0]]
        subsets = []
        for n in range(1, len(given) + 1):
            for s in combinations(range(len(given)), n):
                subsets.append(s)
        members = encoding.members(given)  # (M, B)
        # (S, M + 1): N(0, I) is the last
        chosen = torch.zeros(len(subsets), len(given) + 1, dtype=torch.bool, device=members.device)
        for i, subset in enumerate(subsets):
            chosen[i, list(subset)] = True
        allowed = (members | ~chosen[:, :-1].unsqueeze(-1)).all(1)  # (S, B)
        chosen[-1, -1] = len(given) == len(encoding.shared)
        experts = stacked([encoding.shared[name] for name in given])
        return dist.Mixture(
            dist.product(*_with_unit(experts, members, torch.ones_like(members[0])), chosen),
            allowed,
        )


class BayesRule(Rule):
    """The posterior that unimodal posteriors imply where modalities are independent
    given z:

        log q(z | x_S) = log p(z) + Σ_{m∈S} [log q(z | x_m) − log q_m(z)] + const,

    with p(z) for q_m(z) where an expert does not know its marginal. The product of
    normal experts has a closed form; others are sampled by Hamiltonian Monte Carlo. Any
    method can take this rule at inference. The experts are the posteriors of single
    modalities under the rule that it was trained with.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> type(BayesRule()(encoding, ("x", "y"))).__name__
    'Normal'

    Args:
        hmc: how to sample where there is no closed form.
        prior: p(z) where it is not N(0, I).
    """

    loc: Tensor | None
    scale: Tensor

    def __init__(self, hmc: HMC = HMC(), prior: Diagonal | None = None) -> None:
        super().__init__()
        self.hmc = hmc
        self.family = Normal if prior is None else type(prior)
        self.register_buffer("loc", None if prior is None else prior.loc.detach(), persistent=False)
        self.register_buffer(
            "scale", None if prior is None else prior.scale.detach(), persistent=False
        )

    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> dist.Posterior:
        experts = [encoding.alone(name) for name in given]
        if len(given) == 1:
            return experts[0]
        point = (experts[0].base if isinstance(experts[0], dist.Flowed) else experts[0]).loc[0]
        loc, scale = (
            (torch.zeros_like(point), torch.ones_like(point))
            if self.loc is None
            else (self.loc, self.scale)
        )
        prior = self.family(loc, scale)
        return product_of_posteriors(experts, encoding.members(given), prior, self.hmc, given)


class JointEncoder(nn.Module):
    """q(z | X): a trunk for each modality, concatenated features, a two-layer head.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> joint = JointEncoder(modalities, 4, networks=cp.NetworkOptions(hidden=(8,)))
    >>> joint(encoding.batch).loc.shape
    torch.Size([5, 4])

    Args:
        modalities: all modalities of the model.
        shared_dim: D.
        networks: kind and sizes of the trunks.
        tokens: read a learned vector for the features of an absent modality (our
            choice; the papers assume complete data). Without tokens, rows that lack a
            modality get the unit distribution.
        hidden: width of the head's two layers.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        shared_dim: int,
        *,
        networks: NetworkOptions,
        tokens: bool = False,
        hidden: int = 512,
    ) -> None:
        super().__init__()
        trunks = {m.name: trunk(m, networks) for m in modalities}
        self.trunks = ByName(trunks)
        self.tokens = VectorsByName(
            {name: nn.Parameter(torch.zeros(t.features)) for name, t in trunks.items()}
            if tokens
            else {}
        )
        self.layers = mlp((sum(t.features for t in trunks.values()), hidden, hidden))
        self.head = Head(hidden, shared_dim, "normal")

    def forward(self, batch: Batch) -> Normal:
        """Parameters (B, D)."""
        if self.tokens:
            return self._read([self._with_token(batch, name) for name in self.trunks])
        rows = torch.stack([*batch.present.values()]).all(0).nonzero().squeeze(-1)
        # Without a complete row, one blank row is read and its result is discarded.
        some = rows if len(rows) else torch.zeros(1, dtype=torch.long, device=rows.device)
        features = [network(batch.x[name][some]) for name, network in self.trunks.items()]
        q = self._read(features)
        return q if len(rows) == len(batch) else scattered(q, rows, len(batch))

    def _with_token(self, batch: Batch, name: str) -> Tensor:
        return on_present(
            self.trunks[name],
            batch.x[name],
            batch.present[name],
            self.tokens[name].expand(len(batch), -1),
        )

    def _read(self, features: Sequence[Tensor]) -> Normal:
        q = self.head(self.layers(torch.cat(list(features), -1)))
        return Normal(q.loc, q.scale)


class JointRule(Rule):
    """The joint encoder's posterior for complete rows if every modality is given;
    another rule for all else.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> joint = JointEncoder(modalities, 4, networks=cp.NetworkOptions(hidden=(8,)))
    >>> rule = JointRule(joint, BayesRule())
    >>> rule.joint(encoding.batch).loc.shape
    torch.Size([5, 4])

    Args:
        encoder: q(z | X).
        subsets: the rule for proper subsets, and for rows that lack a modality (our
            choice; the papers leave incomplete rows open).
    """

    def __init__(self, encoder: JointEncoder, subsets: Rule) -> None:
        super().__init__()
        self.encoder = encoder
        self.subsets = subsets
        self.hmc = subsets.hmc

    def joint(self, batch: Batch) -> Normal:
        return self.encoder(batch)

    def forward(self, encoding: Encoding, given: tuple[str, ...]) -> dist.Posterior:
        complete = encoding.members(given).all(0)
        if len(given) < len(encoding.shared) or encoding.joint is None or not bool(complete.any()):
            return self.subsets(encoding, given)
        if bool(complete.all()):
            return encoding.joint
        return chosen(complete, encoding.joint, self.subsets(encoding, given))


def _with_unit(experts: Diagonal, members: Tensor, rows: Tensor) -> tuple[Normal, Tensor]:
    """Append N(0, I) to the experts, as a member of some rows (B,)."""
    loc = experts.loc
    scale = experts.scale
    unit = Normal(
        torch.cat([loc, torch.zeros_like(loc[:1])]), torch.cat([scale, torch.ones_like(scale[:1])])
    )
    return unit, torch.cat([members, rows.unsqueeze(0)])
