"""Posteriors and priors as ``torch.distributions`` whose last axis is the event.

Parameters are float32 at least (:mod:`counterpoint.core.precision`). ``log_prob``
always sums over latent dimensions: a distribution with parameters of shape (B, D) gives
(B,), and values of shape (K, B, D) give (K, B). The library adds to torch a mixture
with the components that each row may use, a diagonal distribution behind a flow, a
point estimate of each (the mean where it is known), and ``detached`` (for DReG), ``kl``
and ``product``.

>>> q, p = Normal(torch.ones(1, 2), torch.ones(1, 2)), Normal(torch.zeros(2), torch.ones(2))
>>> isinstance(q, Diagonal), family("laplace") is Laplace
(True, True)
>>> kl(q, p), detached(q).loc.requires_grad
(tensor([1.]), False)
>>> both = stacked([q, q])
>>> product(both, torch.ones(2, 1)).loc
tensor([[1., 1.]])
>>> Mixture(both, torch.tensor([[True], [False]])).mean
tensor([[1., 1.]])
>>> gathered(scattered(q, torch.tensor([2]), size=4), torch.tensor([0, 2])).loc
tensor([[0., 0.],
        [1., 1.]])
>>> floored(torch.tensor(-50.0)).exp()
tensor(0.0010)
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeVar, cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints, kl_divergence
from torch.distributions import Laplace as _Laplace
from torch.distributions import Normal as _Normal

from counterpoint.core import noise
from counterpoint.core.precision import full_precision, wide


class Diagonal(Independent):  # type: ignore[type-arg]
    """Independent location-scale distributions: ``loc`` and ``scale`` (B, D), event
    axis D. Final classes name the family."""

    base: ClassVar[type[_Normal] | type[_Laplace]]

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(
            self.base(wide(loc), wide(scale), validate_args=False), 1, validate_args=False
        )

    @property
    def loc(self) -> Tensor:
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        return self.base_dist.scale

    @property
    def point_estimate(self) -> Tensor:
        return self.loc

    def rsample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Tensor:
        """loc + scale · ε, (*sample_shape, B, D)."""
        return self.loc + self.scale * self.unit_noise(
            self.loc.new_empty(*sample_shape, *self.loc.shape)
        )

    def sample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Tensor:
        """As ``rsample``, without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    @staticmethod
    @abstractmethod
    def unit_noise(like: Tensor) -> Tensor:
        """ε: draws of location 0 and scale 1, of the shape of ``like``."""


class Normal(Diagonal):
    """Diagonal normal of standard deviation ``scale``."""

    base = _Normal

    @staticmethod
    def unit_noise(like: Tensor) -> Tensor:
        return noise.normal_like(like)


class Laplace(Diagonal):
    """Diagonal Laplace of diversity ``scale``."""

    base = _Laplace

    @staticmethod
    def unit_noise(like: Tensor) -> Tensor:
        return noise.laplace_like(like)


MIN_LEARNED_SCALE = 1e-3
"""No scale that is learned gets smaller."""


def floored(log_scale: Tensor) -> Tensor:
    """log √(s² + 0.001²) of a learned log s. A likelihood gains without bound from ever
    smaller scales where there is nothing to explain, such as a feature that is
    constant, until (x − μ)²/σ² is beyond float32, and long before that nothing else
    counts in the gradient. A thousandth is far below what matters in values of [0, 1]
    or of unit variance. Unlike a clamp, this leaves a gradient to learn larger scales
    by."""
    return 0.5 * torch.logaddexp(
        2 * log_scale, torch.full_like(log_scale, 2 * math.log(MIN_LEARNED_SCALE))
    )


FAMILIES: dict[str, type[Diagonal]] = {"normal": Normal, "laplace": Laplace}


def family(name: str) -> type[Diagonal]:
    """The class of diagonal distributions called ``name``.

    Raises:
        ValueError: an unknown name.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown distribution {name!r}; choose one of {', '.join(FAMILIES)}")
    return FAMILIES[name]


class Mixture(Distribution):
    """Per-row mixture of S diagonal distributions, uniform over the components that the
    row may use.

    Args:
        components: one batch of distributions with parameters (S, B, D).
        allowed: (S, B) bool, which components row b mixes. A row that may use none
            mixes all of them, to stay finite; callers mask such rows.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch's own interface)
    has_rsample = True

    def __init__(self, components: Diagonal, allowed: Tensor) -> None:
        self.components = components
        self.allowed = allowed | ~allowed.any(0, keepdim=True)
        super().__init__(components.loc.shape[1:-1], components.loc.shape[-1:], validate_args=False)

    @property
    def weights(self) -> Tensor:
        """(S, B), summing to one over S."""
        allowed = self.allowed.to(self.components.loc.dtype)
        return allowed / allowed.sum(0, keepdim=True)

    @property
    def mean(self) -> Tensor:
        with full_precision(self.allowed):
            return torch.einsum("sb,sbd->bd", self.weights, self.components.loc)

    @property
    def point_estimate(self) -> Tensor:
        return self.mean

    def log_prob(self, value: Tensor) -> Tensor:
        densities = self.components.log_prob(value.unsqueeze(-3))  # (..., S, B)
        return torch.logsumexp(densities + self.weights.log(), dim=-2)

    def rsample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Tensor:
        """One component is drawn per sample and row; the gradient reaches the chosen
        component."""
        shape = torch.Size(sample_shape)
        chosen = noise.choices(self.weights.T, shape)  # (*shape, B)
        rows = torch.arange(chosen.shape[-1], device=chosen.device).expand_as(chosen)
        return type(self.components)(
            self.components.loc[chosen, rows], self.components.scale[chosen, rows]
        ).rsample()


class Bijection(Protocol):
    """An invertible map of the last axis.

    >>> [name for name in vars(Bijection) if name in ("inv", "call_and_ladj")]
    ['inv', 'call_and_ladj']
    """

    def __call__(self, z: Tensor) -> Tensor:
        """f(z) (..., D)."""

    def inv(self, u: Tensor) -> Tensor:
        """z with f(z) = u."""

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """f(z) (..., D) and log |det ∂f/∂z| (...)."""


class Flowed(Distribution):
    """A diagonal distribution of u = f(z), seen as one of z: log q(z) = log
    q_base(f(z)) + log |det ∂f/∂z|.

    >>> from counterpoint.probability.flows import Flow, FlowOptions
    >>> flow: Callable[..., Bijection] = Flow(2, 0, FlowOptions(hidden=(8,)))
    >>> q = Flowed(Normal(torch.zeros(5, 2), torch.ones(5, 2)), flow)
    >>> q.rsample((3,)).shape
    torch.Size([3, 5, 2])

    Args:
        base: parameters (B, D).
        flow: from a context to the map f.
        context: (B, features) that condition f, or None.
        marginal: of u where nothing is known of the row, parameters (D,): E[q_base]
            over rows, or what comes near it. None where nobody knows.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch's own interface)
    has_rsample = True

    def __init__(
        self,
        base: Diagonal,
        flow: Callable[[Tensor | None], Bijection],
        context: Tensor | None = None,
        marginal: Diagonal | None = None,
    ) -> None:
        self.base = base
        self.flow = flow
        self.context = context
        self.marginal = marginal
        self.map = flow(context)
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        u, volume = self.map.call_and_ladj(value)
        return self.base.log_prob(u) + volume

    def rsample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Tensor:
        return self.map.inv(self.base.rsample(torch.Size(sample_shape)))

    @property
    def point_estimate(self) -> Tensor:
        """The z whose image is the base's location, (B, D), since the mean of a flow has
        no closed form."""
        return self.map.inv(self.base.loc)


Expert = Diagonal | Flowed
"""What one encoder says of z."""

E = TypeVar("E", bound=Expert)
Q = TypeVar("Q", bound="Posterior")


class Posterior(Protocol):
    """What every posterior of z can do: parameters (B, D), values (K, B, D).

    >>> q: Posterior = Normal(torch.ones(1, 2), torch.ones(1, 2))
    >>> q.point_estimate
    tensor([[1., 1.]])
    """

    @property
    def point_estimate(self) -> Tensor:
        """A point estimate, (B, D): the mean where it is known."""

    def log_prob(self, value: Tensor) -> Tensor:
        """(K, B)."""

    def rsample(self, sample_shape: torch.Size = ...) -> Tensor:
        """(K, B, D) for a shape (K,)."""


def detached(q: Q) -> Q:
    """The same distribution with its parameters cut from the graph.

    Raises:
        TypeError: neither diagonal nor a mixture.
    """
    if isinstance(q, Mixture):
        return cast(Q, Mixture(_cut(q.components), q.allowed))
    if isinstance(q, Diagonal):
        return cast(Q, _cut(q))
    raise TypeError(
        f"the parameters of {type(q).__name__} can't be cut from the graph; use estimator='iwae' instead of 'dreg'"
    )


def _cut(q: Diagonal) -> Diagonal:
    return type(q)(q.loc.detach(), q.scale.detach())


def kl(q: Posterior, p: Expert) -> Tensor:
    """KL(q ‖ p), (B,). For a mixture, the mean of the components' divergences: its
    convex upper bound, as MoPoE trains (Sutter et al. 2021,
    https://arxiv.org/abs/2105.02470).

    Raises:
        ValueError: families whose divergence has no closed form.
    """
    if isinstance(q, Mixture):
        return (q.weights * kl(q.components, p)).sum(0)
    if (
        not isinstance(q, Diagonal)
        or not isinstance(p, Diagonal)
        or isinstance(q, Normal) != isinstance(p, Normal)
    ):
        raise ValueError(
            f"KL({type(q).__name__} ‖ {type(p).__name__}) has no closed form; use the same family for posterior and prior"
        )
    return kl_divergence(q.base_dist, p.base_dist).sum(-1)


def stacked(experts: Sequence[Expert]) -> Diagonal:
    """S diagonal distributions of one family with parameters (B, D) as one with
    parameters (S, B, D).

    Raises:
        TypeError: an expert behind a flow.
    """
    diagonal = [q for q in experts if isinstance(q, Diagonal)]
    if len(diagonal) < len(experts):
        raise TypeError(
            "posteriors behind a flow have no parameters to stack; join them with posteriors.BayesRule"
        )
    return type(diagonal[0])(
        torch.stack([d.loc for d in diagonal]), torch.stack([d.scale for d in diagonal])
    )


def scattered(q: E, rows: Tensor, size: int) -> E:
    """Distribution i of ``q`` in row ``rows[i]`` of a batch of ``size`` rows, and the
    unit distribution in the others."""
    if isinstance(q, Flowed):
        context = (
            None
            if q.context is None
            else _put(q.context.new_zeros(size, q.context.shape[-1]), rows, q.context)
        )
        return type(q)(scattered(q.base, rows, size), q.flow, context, q.marginal)
    dim = q.loc.shape[-1]
    return type(q)(
        _put(q.loc.new_zeros(size, dim), rows, q.loc),
        _put(q.scale.new_ones(size, dim), rows, q.scale),
    )


def gathered(q: E, rows: Tensor) -> E:
    """The distributions of some rows of a batch."""
    if isinstance(q, Flowed):
        return type(q)(
            gathered(q.base, rows),
            q.flow,
            None if q.context is None else q.context[rows],
            q.marginal,
        )
    return type(q)(q.loc[rows], q.scale[rows])


def _put(there: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    return there.index_copy(0, rows, values[: len(rows)])


def product(experts: Diagonal, exponents: Tensor, subsets: Tensor | None = None) -> Normal:
    """Products of powers of normal experts, of each subset where there are several.

    The precisions add up: 1/σ² = Σ_m e_m/σ_m², μ = σ² Σ_m e_m·μ_m/σ_m². A row without
        any expert gets N(0, I), so that it stays finite; callers mask such rows.

    Args:
        experts: parameters (M, B, D).
        exponents: (M, B), the power e_m of expert m in row b: 1 where it takes part and
            0 where it does not.
        subsets: (S, M) bool, which experts each of S products has; None for one product
            of them all.

    Returns:
        Parameters (B, D), or (S, B, D) with ``subsets``.

    Raises:
        ValueError: experts that are not normal.
    """
    if not isinstance(experts, Normal):
        raise ValueError(
            "a product of experts has a closed form for normal experts only; use posterior='normal'"
        )
    exponents = exponents.to(experts.loc.dtype)
    precisions = exponents.unsqueeze(-1) * experts.scale.pow(-2)

    def total(values: Tensor) -> Tensor:
        return (
            values.sum(0)
            if subsets is None
            else torch.tensordot(subsets.to(values.dtype), values, 1)
        )

    with full_precision(precisions):
        precision = total(precisions) + (total(exponents.abs()) == 0).unsqueeze(-1)
        return Normal(total(precisions * experts.loc) / precision, precision.rsqrt())
