"""Likelihoods p(x_m | z, w_m): what a decoder's raw output means.

A decoder network returns raw outputs y; the likelihood turns them into log p(x | y), summed over the event, and into the
mean E[x | y]. Constants are kept, so that values are true log-densities.

    Normal       −½((x−μ)/σ)² − log σ − ½ log 2π
    Laplace      −|x−μ|/b − log 2b
    Bernoulli    x·y − softplus(y)
    Categorical  log softmax(y)[x], one vocabulary distribution per position

Normal and Laplace scales are fixed, or learned per feature (one parameter for each entry of an example).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.types import Modality


class Likelihood(nn.Module, ABC):
    """Maps raw decoder outputs (..., B, *output_shape) and values (B, *shape) to log-densities (..., B)."""

    exact = True
    """Whether ``log_prob`` is a density; surrogates say False and refuse importance-sampled likelihoods."""

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.shape = modality.shape
        self.output_shape: tuple[int, ...] = modality.shape

    @abstractmethod
    def mean(self, raw: Tensor) -> Tensor:
        """E[x | raw], differentiable; for words, the probabilities (..., B, length, vocabulary)."""

    def draft(self, raw: Tensor) -> Tensor:
        """The mean, or what is cheap and like it where the mean is dear: for losses that differentiate through what is generated."""
        return self.mean(raw)

    @abstractmethod
    def sample(self, raw: Tensor) -> Tensor:
        """A draw of x given raw outputs, of the shape of the values, by torch's own generator."""

    @abstractmethod
    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """log p(x | raw), (..., B), in float32 whatever the precision of the network."""

    def total(self, entries: Tensor) -> Tensor:
        """Sum over the event axes."""
        return entries.flatten(-len(self.shape)).sum(-1)


class Located(Likelihood):
    """A family with a mean and a scale, fixed or learned.

    The mean is the sigmoid of the raw output for images, which live in [0, 1], and the raw output for vectors and unbounded images.
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality)
        self.unit = modality.unit
        initial = torch.full(modality.shape if modality.scale is None else (), math.log(modality.scale or 1.0))
        if modality.scale is None:
            self.log_scale = nn.Parameter(initial)
        else:
            self.register_buffer("log_scale", initial, persistent=False)

    def mean(self, raw: Tensor) -> Tensor:
        return torch.sigmoid(raw) if self.unit else raw

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def log_volume(self) -> Tensor:
        """Σ log scale over the event."""
        return self.log_scale.sum() if self.log_scale.ndim else self.size * self.log_scale

    def scaled_total(self, deviation: Tensor, power: int) -> Tensor:
        """Σ deviation · scale^power over the event; one multiplication after the sum where the scale is a single number."""
        factor = torch.exp(power * self.log_scale)
        return self.total(deviation * factor) if self.log_scale.ndim else self.total(deviation) * factor


class Normal(Located):
    def sample(self, raw: Tensor) -> Tensor:
        return torch.normal(self.mean(raw.float()), torch.exp(self.log_scale).expand(raw.shape))

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        squares = self.scaled_total((x - self.mean(raw.float())).square(), -2)
        return -0.5 * squares - self.log_volume() - 0.5 * self.size * math.log(2 * math.pi)


class Laplace(Located):
    def sample(self, raw: Tensor) -> Tensor:
        return torch.distributions.Laplace(self.mean(raw.float()), torch.exp(self.log_scale), validate_args=False).sample()

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        return -self.scaled_total((x - self.mean(raw.float())).abs(), -1) - self.log_volume() - self.size * math.log(2)


class Bernoulli(Likelihood):
    def sample(self, raw: Tensor) -> Tensor:
        return torch.bernoulli(self.mean(raw.float()))

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        raw = raw.float()
        return self.total(x * raw - F.softplus(raw))

    def mean(self, raw: Tensor) -> Tensor:
        return torch.sigmoid(raw)


class Categorical(Likelihood):
    """Independent categorical distribution over the vocabulary at each position; raw outputs are (..., *shape, classes)."""

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality)
        if modality.classes is None:
            raise ValueError(f"modality {modality.name!r}: a categorical likelihood needs classes, the vocabulary's size")
        self.output_shape = (*modality.shape, modality.classes)

    def sample(self, raw: Tensor) -> Tensor:
        return torch.distributions.Categorical(logits=raw.float(), validate_args=False).sample()

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        index = x.unsqueeze(-1).expand(*raw.shape[:-1], 1)
        return self.total(F.log_softmax(raw.float(), -1).gather(-1, index).squeeze(-1))

    def mean(self, raw: Tensor) -> Tensor:
        return torch.softmax(raw, -1)


_FAMILIES: dict[str, type[Likelihood]] = {"normal": Normal, "laplace": Laplace, "bernoulli": Bernoulli, "categorical": Categorical}


def likelihood(modality: Modality) -> Likelihood:
    """The likelihood that a modality's record asks for."""
    return _FAMILIES[modality.likelihood](modality)
