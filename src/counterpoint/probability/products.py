"""Products of unimodal posteriors, and posteriors that differ from row to row.

Where modalities are independent given z, their posteriors imply that of any set S of
them:

    q(z | x_S) ∝ p(z) ∏_{m∈S} q(z | x_m) / p(z),     log q = log p(z) + Σ_{m∈S} [log q(z | x_m) − log p(z)] + const.

The prior is divided out |S| − 1 times, not once. With normal experts the product is
normal, of precision Σ_m 1/σ_m² − (|S| − 1). Any other is sampled by Hamiltonian Monte
Carlo, each draw from a chain of its own. Encoders run before the chains start, so that
a step of a chain evaluates the flows only.

Each quotient is p(x_m | z) / p(x_m), which decays where z does not explain x_m. A flow
that was fitted to few draws in its tails may be broader there than the prior, and then
the quotient grows. Its own marginal q_m(z) = E[q(z | x_m)] has the same error, since
the map f is the same for every row. If an expert knows its marginal, we divide by the
marginal instead of the prior (our choice):

    q(z | x_m) / q_m(z) = N(f(z); μ_m, σ_m) / N(f(z); μ̄, σ̄),

from which the volume of f cancels. For a well-learned posterior the marginal is the
prior, and the two agree.

A product can be improper: if experts are broader than what is divided out, its tails
grow. Such rows are detected (exactly for normal experts; otherwise along rays, and by
chains that leave the prior's range). A warning names their number, and they fall back
to the plain product ∏ q(z | x_m), which is always a density.

    JNF 2025, https://arxiv.org/abs/2502.03952; marginals, and the fallback, are our choices.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from counterpoint.core import noise
from counterpoint.probability import distributions as dist
from counterpoint.probability import mcmc
from counterpoint.probability.distributions import Diagonal, Expert, Flowed
from counterpoint.probability.flows import Flow, masked_once, side_by_side
from counterpoint.probability.mcmc import HMC, Chains

RAY_RADII = (16.0, 32.0)
"""Radii, in scales of the prior and beyond the experts' centres, between which a proper
product's log density falls along every ray."""

STUCK_ACCEPTANCE = 1e-3
"""Mean acceptance below which a chain has not moved."""


class ImproperProduct(UserWarning):
    """Warns of a product of posteriors, each over its marginal or the prior, that has no
    finite integral.

    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_improper(torch.tensor([False, True]))
    >>> caught[0].category.__name__
    'ImproperProduct'
    """


class StuckChains(UserWarning):
    """Warns of chains that accepted no proposal, whose draws are their start.

    >>> issubclass(StuckChains, UserWarning)
    True
    """


class ProductOfPosteriors(Distribution):
    """A product without closed form: a density up to a constant, and draws by
    Hamiltonian Monte Carlo.

    >>> experts = [dist.Laplace(torch.zeros(2, 1), torch.full((2, 1), s)) for s in (0.5, 0.5)]
    >>> members = torch.ones(2, 2, dtype=torch.bool)
    >>> prior = dist.Laplace(torch.zeros(1), torch.ones(1))
    >>> q = ProductOfPosteriors(experts, members, prior, HMC(warmup=10, steps=10))
    >>> q.log_prob(torch.zeros(2, 1)) - q.log_prob(torch.ones(2, 1))  # 2/0.5 − 1
    tensor([3., 3.])

    Args:
        experts: q(z | x_m), parameters (B, D) each.
        members: (M, B) bool, which experts row b has.
        prior: p(z), parameters (D,).
        hmc: chains and their length.
        names: of the experts, for messages; empty for their positions.
        rows: (B,) indices in the batch, for messages; None for the first B.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch's own interface)
    has_rsample = True

    def __init__(
        self,
        experts: Sequence[Expert],
        members: Tensor,
        prior: Diagonal,
        hmc: HMC,
        names: Sequence[str] = (),
        rows: Tensor | None = None,
    ) -> None:
        self.experts = tuple(experts)
        self.members = members
        self.prior = prior
        self.hmc = hmc
        self.names = tuple(names) or tuple(str(i) for i in range(len(experts)))
        self.rows = torch.arange(members.shape[1]) if rows is None else rows
        self._improper: Tensor | None = None
        super().__init__(experts[0].batch_shape, experts[0].event_shape, validate_args=False)

    @property
    def improper(self) -> Tensor:
        """(B,) bool: rows whose product has so far been found improper."""
        if self._improper is None:
            self._improper = self._grows()
            warn_of_improper(self._improper)
        return self._improper

    @cached_property
    def _reach(self) -> Tensor:
        """How far from the prior's location the experts say anything, (B, 1)."""
        with torch.no_grad():
            centres = (
                torch.stack([q.point_estimate for q in self.experts])
                if self._together is None
                else self._together.point_estimate.squeeze(1)
            )
            away = torch.where(self.members, (centres - self.prior.loc).abs().amax(-1), 0.0)
        return away.amax(0).nan_to_num().unsqueeze(-1)

    @cached_property
    def _together(self) -> Flowed | None:
        """The experts side by side, where they are of one build."""
        return _side_by_side(self.experts)

    def _grows(self) -> Tensor:
        """(B,) bool: rows whose product grows along some ray, beyond the experts: 48
        axes at most and 16 random directions, both ways."""
        bounded = self._bounded()
        if bool(bounded.all()):
            return ~bounded
        dim = self.event_shape[0]
        with noise.seeded(0), torch.no_grad():
            axes = torch.eye(dim)[torch.randperm(dim, generator=noise.generator())[:48]]
            some = torch.cat(
                [
                    axes,
                    torch.nn.functional.normalize(noise.normal_like(torch.empty(16, dim)), dim=-1),
                ]
            )
            rays = torch.cat([some, -some]).to(self.prior.loc).unsqueeze(1)
            at = [
                self.prior.loc + (self._reach + radius * self.prior.scale) * rays
                for radius in RAY_RADII
            ]
            near, far = (self._log_density(z, None) for z in at)
        return ((far >= near) & (far > -math.inf)).any(0) & ~bounded

    def _bounded(self) -> Tensor:
        """(B,) bool: rows whose quotients are all bounded, because what x says is
        narrower in every dimension than what is said over all rows."""
        narrower = [
            (q.base.scale <= q.marginal.scale).all(-1)
            if isinstance(q, Flowed) and q.marginal is not None
            else torch.zeros_like(here)
            for q, here in zip(self.experts, self.members, strict=True)
        ]
        return (torch.stack(narrower) | ~self.members).all(0)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) + Σ_m log q(z | x_m) / q_m(z) of values (K, B, D), (K, B): not
        normalised. Improper rows: Σ_m log q(z | x_m)."""
        return self._log_density(value, self._proper)

    @property
    def _proper(self) -> Tensor | None:
        """(B,) which rows have something divided out, or None where all of them have."""
        return ~self.improper if bool(self.improper.any()) else None

    def _log_density(self, z: Tensor, proper: Tensor | None) -> Tensor:
        prior = self._prior(z, proper)
        said = [
            torch.where(here, _added(q, z, prior, proper), 0.0)
            for q, here in zip(self.experts, self.members, strict=True)
        ]
        return prior + torch.stack(said).sum(0)

    def _prior(self, z: Tensor, proper: Tensor | None) -> Tensor:
        return (
            self.prior.log_prob(z)
            if proper is None
            else torch.where(proper, self.prior.log_prob(z), 0.0)
        )

    def _fast_log_density(self) -> mcmc.LogDensity:
        """``log_prob`` for chains, which call it a thousand times: experts alike are
        evaluated side by side."""
        proper = self._proper
        together = self._together
        if together is None:
            return partial(self._log_density, proper=proper)
        members = self.members.unsqueeze(1)

        def log_density(z: Tensor) -> Tensor:
            prior = self._prior(z, proper)
            return prior + torch.where(
                members, _added(together, z.expand(len(members), *z.shape), prior, proper), 0.0
            ).sum(0)

        return log_density

    def chains(self, count: int | None = None) -> Chains:
        """The chains of each row, (steps, C, B, D), started at draws from its experts
        in turn. Rows whose chains leave the prior's range are improper, and are sampled
        anew. Rows with a chain that does not move are reported by a warning; the other
        rows are none the worse.

        Args:
            count: C; the settings' number where None.
        """
        count = count or self.hmc.chains
        chains = self._run(count)
        reach = self._reach + RAY_RADII[0] * self.prior.scale
        away = (chains.draws - self.prior.loc).abs() > reach
        astray = away.any(-1).any(0).any(0) & ~self.improper
        if bool(astray.any()):
            self._improper = self.improper | astray
            warn_of_improper(astray)
            chains = self._run(count)
        self._report_stuck(chains)
        return chains

    def _report_stuck(self, chains: Chains) -> None:
        stuck = (chains.acceptance.amin(0) < STUCK_ACCEPTANCE).nonzero().squeeze(-1)
        if len(stuck) == 0:
            return
        first = int(stuck[0])
        with torch.no_grad():
            at = torch.where(
                torch.isfinite(chains.draws[-1]), chains.draws[-1], self.prior.point_estimate
            )
            blind = [
                f"{name!r}"
                for name, q, here in zip(self.names, self.experts, self.members, strict=True)
                if here[first] and not bool(torch.isfinite(q.log_prob(at))[:, first].all())
            ]
        why = (
            f"what {' and '.join(blind)} says of it is not finite"
            if blind
            else "no proposal was taken; give hmc a longer warmup"
        )
        warnings.warn(
            f"chains of {len(stuck)} of {len(self.rows)} rows stayed where they began, the first in row {int(self.rows[first])}: {why}",
            StuckChains,
            stacklevel=3,
        )

    def _run(self, count: int) -> Chains:
        with (
            torch.no_grad(),
            masked_once(),
        ):  # flows multiply their masks in once, not at every step
            turn = torch.arange(count, device=self.members.device).unsqueeze(-1)
            size = self.members.sum(0).clamp(min=1)
            # (M, B): the how-manieth expert of its row each is
            nth = torch.cumsum(self.members, 0) - 1
            # (M, C, B, 1)
            begins = (
                (self.members & (nth == (turn % size).unsqueeze(1))).permute(1, 0, 2).unsqueeze(-1)
            )
            start = self.prior.loc.new_zeros(count, *self.batch_shape, *self.event_shape)
            for q, rows in zip(self.experts, begins, strict=True):
                if bool(rows.any()):  # flows take a pass for every dimension to draw
                    start = torch.where(rows, q.rsample(torch.Size((count,))), start)
            log_density = self._fast_log_density()
            # Multiplies masks in where flows are not stacked: a compiled density has to find it
            # done.
            log_density(start)
            return mcmc.sample(log_density, start, self.hmc)

    def rsample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Tensor:
        """The last positions of as many chains as draws; no gradient reaches the
        experts."""
        shape = torch.Size(sample_shape)
        count = shape.numel()
        last = self.chains(max(count, self.hmc.chains)).draws[-1, :count]
        return last.reshape(*shape, *last.shape[1:])

    @cached_property
    def point_estimate(self) -> Tensor:
        """The mean of all draws after warm-up, (B, D), from fixed random numbers."""
        with noise.seeded(0):
            return self.chains().draws.mean((0, 1))


def _side_by_side(experts: Sequence[Expert]) -> Flowed | None:
    """Experts behind flows of one build as one distribution with parameters (M, 1, B,
    D); None for others, or in one dimension."""
    flowed = [q for q in experts if isinstance(q, Flowed) and isinstance(q.flow, Flow)]
    flows = [q.flow for q in flowed if isinstance(q.flow, Flow)]
    marginals = [q.marginal for q in flowed if q.marginal is not None]
    kinds = {
        (flow.build, type(q.base), type(q.marginal)) for flow, q in zip(flows, flowed, strict=True)
    }
    if len(flowed) < len(experts) or len(kinds) != 1 or flows[0].dim < 2:
        return None
    context = [q.context for q in flowed if q.context is not None]
    return Flowed(
        _spread(dist.stacked([q.base for q in flowed])),
        side_by_side(flows),
        torch.stack(context).unsqueeze(1) if context else None,
        _spread(_spread(dist.stacked(marginals))) if marginals else None,
    )


def _spread(q: Diagonal) -> Diagonal:
    """Parameters (M, ...) as (M, 1, ...)."""
    return type(q)(q.loc.unsqueeze(1), q.scale.unsqueeze(1))


def _added(q: Expert, z: Tensor, prior: Tensor, proper: Tensor | None) -> Tensor:
    """log q(z | x_m) / q_m(z) where ``proper``, log q(z | x_m) elsewhere, (K, B); log
    p(z) serves where q_m is not known."""
    if not isinstance(q, Flowed) or q.marginal is None:
        return q.log_prob(z) - prior
    if proper is None:
        u = q.map(z)
        return q.base.log_prob(u) - q.marginal.log_prob(u)
    u, volume = q.map.call_and_ladj(z)
    return q.base.log_prob(u) + torch.where(proper, -q.marginal.log_prob(u), volume)


def warn_of_improper(rows: Tensor) -> None:
    """Warn that the product of some rows (B,) bool is improper.

    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_improper(torch.tensor([False, True]))
    >>> caught[0].category.__name__
    'ImproperProduct'
    """
    if bool(rows.any()):
        warnings.warn(
            f"the product of the unimodal posteriors is improper in {int(rows.sum())} of {len(rows)} rows, whose experts are broader than"
            " what is divided out; they take the plain product of the experts",
            ImproperProduct,
            stacklevel=4,
        )
