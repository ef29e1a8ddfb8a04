"""Likelihoods p(x_m | z, w_m): from a decoder's raw outputs to densities and means.

A decoder network returns raw outputs y. The likelihood turns them into log p(x | y),
summed over the event, and into the mean E[x | y]. Constants are kept, so that values
are true log-densities.

    Normal             −½((x−μ)/σ)² − log σ − ½ log 2π
    Laplace            −|x−μ|/b − log 2b
    Bernoulli          x·y − softplus(y)
    Categorical        log softmax(y)[x], one vocabulary distribution per position
    NegativeBinomial   log Γ(x+θ)/(Γ(θ) x!) − θ softplus(t) − x softplus(−t),   t = log μ − log θ,   μ = ℓ softmax(y)
    ZeroInflated       log(π [x = 0] + (1−π) NB(x)),   π = sigmoid of a second output for each feature
    Beta               log Γ(φ)/(Γ(φm) Γ(φ(1−m))) + (φm−1) log x + (φ(1−m)−1) log(1−x),   m = sigmoid(y)

Normal and Laplace scales are fixed, or learned per feature (one parameter for each
entry of an example) with a floor of .001 (our choice, see
:func:`counterpoint.probability.distributions.floored`). θ and φ are learned per
feature. The variance of a count is μ + μ²/θ, that of a proportion m(1−m)/(1+φ). A
constant feature would let φ grow without bound, so φ stays below a million. θ needs no
bound: as θ → ∞ counts become Poisson.

Counts follow scVI and its names "nb" and "zinb" (Lopez et al., "Deep generative
modeling for single-cell transcriptomics", 2018,
https://www.nature.com/articles/s41592-018-0229-2). ℓ is the library size. For a row with
known counts it is the row's total, which is given and not modelled, log p(x | z, w, ℓ),
so that latents need not encode sequencing depth. Generated rows have no total and take
the typical one: the geometric mean over the training rows, saved with the weights.

A beta density is 0 or infinite at 0 and 1. Proportions are clamped to half a thousandth
from either end, the distance to which Smithson & Verkuilen squeeze a thousand rows
("A better lemon squeezer?", 2006, https://doi.org/10.1037/1082-989X.11.1.54).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.core import noise
from counterpoint.core.modality import LIKELIHOOD_NAMES, Modality
from counterpoint.core.precision import wide
from counterpoint.core.registry import Registry
from counterpoint.model.counts import NegativeBinomial, ZeroInflated
from counterpoint.model.likelihood import Likelihood
from counterpoint.probability.distributions import floored

MAX_CONCENTRATION = 1e6
"""Largest learned φ."""

MIN_DISTANCE_TO_ENDS = 5e-4
"""Distance from 0 and 1 to which proportions are clamped."""


class Located(Likelihood):
    """A family with a mean and a scale, fixed or learned.

    The mean is the sigmoid of the raw output for images, which live in [0, 1], and the
    raw output for vectors and unbounded images.

    >>> Laplace(Modality("x", (1,), "laplace", 0.75)).log_sigma.exp()
    tensor(0.7500)
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality)
        self.unit = modality.unit
        self.learned = modality.scale is None
        initial = torch.full(
            modality.shape if modality.scale is None else (), math.log(modality.scale or 1.0)
        )
        if modality.scale is None:
            self.log_scale = nn.Parameter(initial)
        else:
            self.register_buffer("log_scale", initial, persistent=False)

    @property
    def log_sigma(self) -> Tensor:
        """Log of the scale: one number if it is fixed, of the shape of an example if it
        is learned."""
        return floored(self.log_scale) if self.learned else self.log_scale

    def mean(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        return torch.sigmoid(wide(raw)) if self.unit else wide(raw)

    def size(self, there: Tensor | None) -> Tensor | int:
        """How many entries are there."""
        if there is None:
            return math.prod(self.shape)
        return there.flatten(-len(self.shape)).sum(-1)

    def log_volume(self, there: Tensor | None) -> Tensor:
        """Σ log scale over the event."""
        log_sigma = self.log_sigma
        return self.total(log_sigma, there) if log_sigma.ndim else self.size(there) * log_sigma

    def scaled_total(self, deviation: Tensor, power: int, there: Tensor | None) -> Tensor:
        """Σ deviation · scale^power over the event. A single scale multiplies once,
        after the sum."""
        factor = torch.exp(power * self.log_sigma)
        if self.log_scale.ndim:
            return self.total(deviation * factor, there)
        return self.total(deviation, there) * factor


class Normal(Located):
    """A normal of fixed or learned standard deviation.

    >>> normal = Normal(Modality("x", (1,), "normal", 1.0))
    >>> normal.log_prob(torch.zeros(1, 1), torch.zeros(1, 1))  # −½ log 2π
    tensor([-0.9189])
    """

    def sample(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        mean = self.mean(raw)
        return mean + torch.exp(self.log_sigma) * noise.normal_like(mean)

    def log_prob(self, raw: Tensor, x: Tensor, there: Tensor | None = None) -> Tensor:
        squares = self.scaled_total((x - self.mean(raw)).square(), -2, there)
        return (
            -0.5 * squares - self.log_volume(there) - 0.5 * self.size(there) * math.log(2 * math.pi)
        )


class Laplace(Located):
    """A Laplace of fixed or learned diversity.

    >>> laplace = Laplace(Modality("x", (1,), "laplace", 0.5))
    >>> laplace.log_prob(torch.zeros(1, 1), torch.ones(1, 1))  # −1/b − log 2b
    tensor([-2.])
    """

    def sample(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        mean = self.mean(raw)
        return mean + torch.exp(self.log_sigma) * noise.laplace_like(mean)

    def log_prob(self, raw: Tensor, x: Tensor, there: Tensor | None = None) -> Tensor:
        deviations = self.scaled_total((x - self.mean(raw)).abs(), -1, there)
        return -deviations - self.log_volume(there) - self.size(there) * math.log(2)


class Bernoulli(Likelihood):
    """Binary entries, or values in [0, 1]; raw outputs are logits.

    >>> Bernoulli(Modality("x", (2,), "bernoulli", None)).mean(torch.tensor([[0.0, 9.0]]))
    tensor([[0.5000, 0.9999]])
    """

    def sample(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        return noise.bernoulli(self.mean(raw))

    def log_prob(self, raw: Tensor, x: Tensor, there: Tensor | None = None) -> Tensor:
        raw = wide(raw)
        return self.total(x * raw - F.softplus(raw), there)

    def mean(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        return torch.sigmoid(wide(raw))


class Categorical(Likelihood):
    """Independent categorical distribution over the vocabulary at each position; raw
    outputs are (..., *shape, classes).

    >>> words = Categorical(Modality("text", (1,), "categorical", None, classes=4))
    >>> words.log_prob(torch.zeros(1, 1, 4), torch.tensor([[3]]))  # −log 4
    tensor([-1.3863])
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality)
        if modality.classes is None:
            raise ValueError(
                f"modality {modality.name!r}: a categorical likelihood needs classes, the vocabulary's size"
            )
        self.output_shape = (*modality.shape, modality.classes)

    def sample(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        probabilities = torch.softmax(wide(raw), -1).flatten(0, -2)
        return noise.choices(probabilities, ()).view(raw.shape[:-1])

    def log_prob(self, raw: Tensor, x: Tensor, there: Tensor | None = None) -> Tensor:
        index = x.unsqueeze(-1).expand(*raw.shape[:-1], 1)
        return self.total(F.log_softmax(wide(raw), -1).gather(-1, index).squeeze(-1), there)

    def mean(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        return torch.softmax(wide(raw), -1)


class Beta(Likelihood):
    """Proportions.

    Attributes:
        log_concentration: c, of the shape of an example, with 1/φ = e^(−c) + 10⁻⁶. φ
            starts at 1.

    >>> shares = Beta(Modality("share", (1,), "beta", None))
    >>> shares.mean(torch.zeros(1, 1))
    tensor([[0.5000]])
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality)
        self.log_concentration = nn.Parameter(torch.zeros(modality.shape))

    def mean(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        return torch.sigmoid(wide(raw))

    def sample(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        a, b = (log.exp().clamp(min=1e-6) for log in self.log_shapes(raw))
        return noise.beta(a, b)

    def log_prob(self, raw: Tensor, x: Tensor, there: Tensor | None = None) -> Tensor:
        # In double precision: a small difference of large numbers.
        log_a, log_b = (log.double() for log in self.log_shapes(raw))
        a = log_a.exp()
        b = log_b.exp()
        x = x.clamp(MIN_DISTANCE_TO_ENDS, 1 - MIN_DISTANCE_TO_ENDS).double()
        # Finite also if a or b underflows.
        orders = torch.lgamma(a + b) - torch.lgamma(a + 1) - torch.lgamma(b + 1)
        ways = orders + log_a + log_b
        return self.total(
            (ways + (a - 1) * x.log() + (b - 1) * torch.log1p(-x)).to(wide(raw).dtype), there
        )

    def log_shapes(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """log φm and log φ(1−m)."""
        raw = wide(raw)
        log_phi = -torch.logaddexp(
            -self.log_concentration,
            torch.full_like(self.log_concentration, -math.log(MAX_CONCENTRATION)),
        )
        return log_phi + F.logsigmoid(raw), log_phi + F.logsigmoid(-raw)


LIKELIHOODS: Registry[type[Likelihood]] = Registry(
    "likelihood",
    {
        "normal": Normal,
        "laplace": Laplace,
        "bernoulli": Bernoulli,
        "categorical": Categorical,
        "nb": NegativeBinomial,
        "zinb": ZeroInflated,
        "beta": Beta,
    },
)
"""Likelihoods by the name that ``Modality.likelihood`` takes."""


def register_likelihood(name: str, kind: type[Likelihood]) -> None:
    """Add a likelihood of your own for real values, under a name that
    :class:`~counterpoint.Modality` then takes.

    >>> from counterpoint.extend import LIKELIHOODS, register_likelihood
    >>> register_likelihood("normal", LIKELIHOODS["normal"])  # it was registered before
    >>> register_likelihood("normal", LIKELIHOODS["laplace"])
    Traceback (most recent call last):
    ValueError: likelihood 'normal' is there already; give another name

    Raises:
        ValueError: another likelihood has the name.
    """
    LIKELIHOODS.register(name, kind)
    LIKELIHOOD_NAMES.register(name, name)


def likelihood(of: Modality) -> Likelihood:
    """Make the likelihood that a modality's record asks for.

    >>> type(likelihood(Modality("x", (3,), "normal"))).__name__
    'Normal'
    """
    return LIKELIHOODS.named(of.likelihood)(of)
