"""Posteriors and priors as ``torch.distributions`` whose last axis is the event.

``log_prob`` therefore always sums over latent dimensions: a distribution with parameters of shape (B, D) gives (B,), and
values of shape (K, B, D) give (K, B). What the library adds to torch is a mixture that knows which of its components each
row may use, and three operations on either kind: ``detached`` (for DReG), ``kl`` and ``product``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints, kl_divergence
from torch.distributions import Laplace as _Laplace
from torch.distributions import Normal as _Normal


class Diagonal(Independent):  # type: ignore[type-arg]
    """Independent location-scale distributions: ``loc`` and ``scale`` (B, D), event axis D. Final classes name the family."""

    base: ClassVar[type[_Normal] | type[_Laplace]]

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(self.base(loc, scale, validate_args=False), 1, validate_args=False)

    @property
    def loc(self) -> Tensor:
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        return self.base_dist.scale


class Normal(Diagonal):
    """Diagonal normal of standard deviation ``scale``."""

    base = _Normal


class Laplace(Diagonal):
    """Diagonal Laplace of diversity ``scale``."""

    base = _Laplace


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
    """Per-row mixture of S diagonal distributions, uniform over the components that the row may use.

    Args:
        components: one batch of distributions with parameters (S, B, D).
        allowed: (S, B) bool, which components row b mixes. A row that may use none mixes all of them, to stay finite;
            callers mask such rows.
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
        return torch.einsum("sb,sbd->bd", self.weights, self.components.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        densities = self.components.log_prob(value.unsqueeze(-3))  # (..., S, B)
        return torch.logsumexp(densities + self.weights.log(), dim=-2)

    def rsample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Tensor:
        """One component is drawn per sample and row; the gradient reaches the chosen component."""
        shape = torch.Size(sample_shape)
        chosen = torch.multinomial(self.weights.T, max(shape.numel(), 1), replacement=True).T.reshape(*shape, -1)  # (*shape, B)
        rows = torch.arange(chosen.shape[-1], device=chosen.device).expand_as(chosen)
        return type(self.components)(self.components.loc[chosen, rows], self.components.scale[chosen, rows]).rsample()


Posterior = Diagonal | Mixture


def detached(q: Posterior) -> Posterior:
    """The same distribution with its parameters cut from the graph."""
    diagonal = q.components if isinstance(q, Mixture) else q
    cut = type(diagonal)(diagonal.loc.detach(), diagonal.scale.detach())
    return Mixture(cut, q.allowed) if isinstance(q, Mixture) else cut


def kl(q: Posterior, p: Diagonal) -> Tensor:
    """KL(q ‖ p), (B,). For a mixture, the mean of the components' divergences: its convex upper bound, as MoPoE trains
    (Sutter et al. 2021, https://arxiv.org/abs/2105.02470)."""
    if isinstance(q, Mixture):
        return (q.weights * kl(q.components, p)).sum(0)
    if isinstance(q, Normal) != isinstance(p, Normal):
        raise ValueError(f"KL({type(q).__name__} ‖ {type(p).__name__}) has no closed form; use the same family for posterior and prior")
    return kl_divergence(q.base_dist, p.base_dist).sum(-1)


def stacked(distributions: Sequence[Diagonal]) -> Diagonal:
    """S distributions of one family with parameters (B, D) as one with parameters (S, B, D)."""
    return type(distributions[0])(torch.stack([d.loc for d in distributions]), torch.stack([d.scale for d in distributions]))


def product(experts: Diagonal, exponents: Tensor, subsets: Tensor | None = None) -> Normal:
    """Products of powers of normal experts, of each subset where there are several.

    The precisions add up: 1/σ² = Σ_m e_m/σ_m², μ = σ² Σ_m e_m·μ_m/σ_m². A row without any expert gets N(0, I), so that it stays
    finite; callers mask such rows.

    Args:
        experts: parameters (M, B, D).
        exponents: (M, B), the power e_m of expert m in row b: 1 where it takes part and 0 where it does not.
        subsets: (S, M) bool, which experts each of S products has; None for one product of them all.

    Returns:
        Parameters (B, D), or (S, B, D) with ``subsets``.

    Raises:
        ValueError: experts that are not normal.
    """
    if not isinstance(experts, Normal):
        raise ValueError("a product of experts has a closed form for normal experts only; use posterior='normal'")
    exponents = exponents.to(experts.loc.dtype)
    precisions = exponents.unsqueeze(-1) * experts.scale.pow(-2)

    def total(values: Tensor) -> Tensor:
        return values.sum(0) if subsets is None else torch.tensordot(subsets.to(values.dtype), values, 1)

    precision = total(precisions) + (total(exponents.abs()) == 0).unsqueeze(-1)
    return Normal(total(precisions * experts.loc) / precision, precision.rsqrt())
