"""Fitted priors: learned from the posteriors of a trained model.

A ``Prior`` is a density: it enters the objective. A ``FittedPrior`` draws latents like
those that it was fitted to, the aggregate posterior. The KL keeps the density;
generation draws from the fitted prior instead.

    diffusion   DDPM          IDMVAE 2025, https://arxiv.org/abs/2509.23548
    score       score model, sampled by predictor and corrector, Diff-MVAE 2024, https://arxiv.org/abs/2408.16883
    score-ode   the same, sampled by the probability-flow equation
    flow        neural spline flow, by maximum likelihood
    gmm         mixture of full-covariance normals, as in JNF's evaluation, 2025, https://arxiv.org/abs/2502.03952
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint import diffusion
from counterpoint.core import noise
from counterpoint.core.precision import full_precision
from counterpoint.core.registry import Registry
from counterpoint.diffusion import GaussianDiffusion, TimeMLP
from counterpoint.nn.running import RunningMoments
from counterpoint.probability.distributions import Flowed, Normal
from counterpoint.probability.flows import Flow, FlowOptions

MIN_VARIANCE = 1e-5
"""Added to the variance of latents before they are standardised, so that a constant
dimension stays finite."""

MAX_MIXTURE_ROWS = 50_000
"""Most rows that a mixture is fitted to. 660,000 rows take more than a quarter of an
hour."""


class FittedPrior(nn.Module, ABC):
    """Draws latents like those that it was fitted to.

    Subclass :class:`TrainedPrior` or :class:`EstimatedPrior`.

    >>> class Kept(FittedPrior):
    ...     def sample(self, n):
    ...         return torch.zeros(n, 2)
    >>> Kept().sample(3).shape
    torch.Size([3, 2])
    """

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """Draw latents, (n, dim)."""


class EstimatedPrior(FittedPrior):
    """A fitted prior that takes all latents at once, without gradient steps.

    >>> class Centre(EstimatedPrior):
    ...     def fit(self, latents, seed=0):
    ...         self.mean = latents.mean(0)
    ...         return (latents - self.mean).square().mean().item()
    ...     def sample(self, n):
    ...         return self.mean.expand(n, -1)
    >>> Centre().fit(torch.tensor([[-1.0], [1.0]]))
    1.0
    """

    @abstractmethod
    def fit(self, latents: Tensor, seed: int = 0) -> float:
        """Fit to latents (N, dim).

        Returns:
            The mean negative log-likelihood.
        """


class TrainedPrior(FittedPrior):
    """A fitted prior that learns by gradient.

    Latents are standardised by running moments first (our choice): a diffusion schedule
    and the domain of a spline assume unit variance, which posterior means of a VAE
    rarely have.

    >>> class Normal(TrainedPrior):
    ...     def standard_loss(self, u):
    ...         return (u**2).sum(-1) / 2
    ...     def standard_sample(self, n):
    ...         return torch.randn(n, self.dim)
    >>> prior = Normal(1)
    >>> prior.standardise_by(torch.tensor([[1.0], [3.0]]))
    >>> prior.mean
    tensor([2.])

    Args:
        dim: number of latent dimensions.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.statistics = RunningMoments(dim)

    @abstractmethod
    def standard_loss(self, u: Tensor) -> Tensor:
        """Loss of each row, (N,), of standardised latents (N, dim)."""

    @abstractmethod
    def standard_sample(self, n: int) -> Tensor:
        """(n, dim) standardised latents."""

    def loss(self, latents: Tensor) -> Tensor:
        """Loss of each row, (N,), of latents (N, dim). Gradients reach the latents."""
        self.statistics(latents)
        return self.standard_loss(self.standardised(latents))

    def sample(self, n: int) -> Tensor:
        return self.mean + self.scale * self.standard_sample(n)

    def standardised(self, latents: Tensor) -> Tensor:
        """Latents (N, dim) less their running mean, over their running standard
        deviation."""
        return (latents - self.mean) / self.scale

    def standardise_by(self, latents: Tensor) -> None:
        """Set the moments to those of latents (N, dim) that are known before the first
        batch."""
        self.statistics.settle(latents)

    @property
    def mean(self) -> Tensor:
        """Running mean of the latents, (dim,)."""
        return self.statistics.mean

    @property
    def scale(self) -> Tensor:
        """Running standard deviation of the latents, (dim,)."""
        return (self.statistics.variance + MIN_VARIANCE).sqrt()


class DiffusionPrior(TrainedPrior):
    """DDPM of latent vectors: T = 1000, sigmoid schedule, squared error of x̂_0, summed
    over the dimensions and weighted by SNR clamped to [1, 100]; sampled by 100 steps of
    DDIM, η = 0.

    IDMVAE (2025, https://arxiv.org/abs/2509.23548) trains one for z, on every
    modality's posterior mean, and one per w_m. Schedule, weight, sum and solver are
    those of its authors' code. Our choices: the network predicts v (theirs x_0), which
    gives the same x̂_0 and the same loss; latents are standardised first; the network
    has two residual blocks (theirs one hidden layer).

    >>> prior = DiffusionPrior(2, width=8)
    >>> prior.loss(torch.zeros(5, 2)).shape, prior.sample(3).shape
    (torch.Size([5]), torch.Size([3, 2]))

    Args:
        dim: number of latent dimensions.
        width: width of the denoiser.
    """

    def __init__(self, dim: int, *, width: int = 512) -> None:
        super().__init__(dim)
        self.process = GaussianDiffusion(
            timesteps=1000, schedule="sigmoid", prediction_type="v", weighting="clamped"
        )
        self.velocity = TimeMLP(dim, width)

    def standard_loss(self, u: Tensor) -> Tensor:
        return self.dim * self.process.loss(self.velocity, u)

    def standard_sample(self, n: int) -> Tensor:
        start = noise.normal_like(self.mean.new_empty(n, self.dim))
        return diffusion.sample(self.process, self.velocity, start, steps=100)


class ScorePrior(TrainedPrior):
    """Score model of latents under the VP-SDE, β from 0.1 to 20, at continuous times;
    sampled by predictor and corrector or by the probability-flow equation (Song et al.
    2021, https://arxiv.org/abs/2011.13456).

    Diff-MVAE (2024, https://arxiv.org/abs/2408.16883) fits one to the aggregate
    posterior. Our choices: the network predicts v instead of ε, since a small error of
    ε̂ at the noisiest times leaves latents far too wide after any number of
    deterministic steps; 500 steps of predictor and corrector, published with 1000; and
    50 steps of the equation's solver, at a twentieth of the evaluations.

    >>> ScorePrior(2, width=8).loss(torch.zeros(5, 2)).shape
    torch.Size([5])

    Args:
        dim: number of latent dimensions.
        width: width of the network.
        equation: sample by the probability-flow equation.
    """

    def __init__(self, dim: int, *, width: int = 512, equation: bool = False) -> None:
        super().__init__(dim)
        self.walk: tuple[int, str] = (50, "dpm++") if equation else (500, "pc")
        self.process = GaussianDiffusion(
            timesteps=1000,
            schedule="linear",
            prediction_type="v",
            weighting="plain",
            continuous=True,
        )
        self.network = TimeMLP(dim, width)

    def standard_loss(self, u: Tensor) -> Tensor:
        return self.dim * self.process.loss(self.network, u)

    def standard_sample(self, n: int) -> Tensor:
        start = noise.normal_like(self.mean.new_empty(n, self.dim))
        steps, solver = self.walk
        return diffusion.sample(self.process, self.network, start, steps=steps, solver=solver)


class FlowPrior(TrainedPrior):
    """Neural spline flow of three layers from N(0, I), by maximum likelihood.

    >>> FlowPrior(2, width=8).sample(3).shape
    torch.Size([3, 2])

    Args:
        dim: number of latent dimensions.
        width: of the two hidden layers of each layer's network.
    """

    def __init__(self, dim: int, *, width: int = 128) -> None:
        super().__init__(dim)
        self.flow = Flow(dim, 0, FlowOptions("nsf", transforms=3, hidden=(width, width)))

    def standard_loss(self, u: Tensor) -> Tensor:
        return -self._density(1).log_prob(u)

    def standard_sample(self, n: int) -> Tensor:
        return self._density(n).rsample()

    def _density(self, n: int) -> Flowed:
        zero = self.mean.new_zeros(n, self.dim)
        return Flowed(Normal(zero, torch.ones_like(zero)), self.flow)


class GaussianMixture(EstimatedPrior):
    """Mixture of normals with full covariances, fitted by expectation maximisation
    (scikit-learn's).

    Args:
        dim: number of latent dimensions.
        components: number of normals.

    >>> prior = GaussianMixture(2, components=1)
    >>> _ = prior.fit(torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]]))
    >>> prior.means.tolist()
    [[2.0, 2.0]]
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, dim: int, *, components: int = 10) -> None:
        super().__init__()
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, dim))
        self.register_buffer("factors", torch.eye(dim).repeat(components, 1, 1))

    def fit(self, latents: Tensor, seed: int = 0) -> float:
        """Fit to latents (N, dim), random ones where there are more than 50,000;
        returns the mean negative log-likelihood.

        Raises:
            ValueError: fewer rows than components.
        """
        from sklearn.mixture import GaussianMixture as Mixture

        rows = latents.double().cpu().numpy()
        if len(rows) < len(self.weights):
            raise ValueError(
                f"{len(rows)} rows are too few for a mixture of {len(self.weights)}; give it fewer components"
            )
        if len(rows) > MAX_MIXTURE_ROWS:
            rows = np.random.default_rng(seed).choice(rows, MAX_MIXTURE_ROWS, replace=False)
        fitted = Mixture(len(self.weights), reg_covar=1e-6, random_state=seed).fit(rows)
        self.weights.copy_(torch.as_tensor(fitted.weights_))
        self.means.copy_(torch.as_tensor(fitted.means_))
        self.factors.copy_(torch.linalg.cholesky(torch.as_tensor(fitted.covariances_)))
        return -float(fitted.score(rows))

    def sample(self, n: int) -> Tensor:
        which = noise.choices(self.weights[None], (n,)).squeeze(-1)
        eps = noise.normal_like(self.means.new_empty(n, self.means.shape[1], 1))
        with full_precision(eps):
            return self.means[which] + (self.factors[which] @ eps).squeeze(-1)


@dataclass(frozen=True)
class PriorKind:
    """How fitted priors of one kind are made.

    >>> FITTED_PRIORS["diffusion"].size
    512

    Args:
        make: (dim, size) → a prior that is not yet fitted.
        size: the default width of its networks, or number of components.
    """

    make: Callable[[int, int], FittedPrior]
    size: int


FITTED_PRIORS: Registry[PriorKind] = Registry(
    "fitted prior",
    {
        "diffusion": PriorKind(lambda dim, size: DiffusionPrior(dim, width=size), 512),
        "score": PriorKind(lambda dim, size: ScorePrior(dim, width=size), 512),
        "score-ode": PriorKind(lambda dim, size: ScorePrior(dim, width=size, equation=True), 512),
        "flow": PriorKind(lambda dim, size: FlowPrior(dim, width=size), 128),
        "gmm": PriorKind(lambda dim, size: GaussianMixture(dim, components=size), 10),
    },
)
"""Kinds of fitted priors by the name that ``fit_prior`` takes."""


def make_fitted_priors(
    kind: str, size: int | None, dims: Mapping[str, int]
) -> tuple[nn.ModuleDict, int]:
    """Make priors of one kind, not yet fitted, for latents of the given sizes.

    >>> priors, size = make_fitted_priors("gmm", 3, {"z": 4, "w_x": 2})
    >>> [*priors], size
    (['z', 'w_x'], 3)

    Args:
        kind: one of :data:`FITTED_PRIORS`.
        size: width of the networks, or number of components; None for the default.
        dims: number of dimensions of each latent, by its key.

    Returns:
        The priors by key, and their size.

    Raises:
        ValueError: an unknown kind, or a size below 1.
    """
    known = FITTED_PRIORS.named(kind)
    size = known.size if size is None else size
    if size < 1:
        raise ValueError(f"the size of {kind} priors must be 1 or more, got {size}")
    return nn.ModuleDict({key: known.make(dim, size) for key, dim in dims.items()}), size
