"""Likelihoods of counts; :mod:`counterpoint.model.likelihoods` derives them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.core import noise
from counterpoint.core.modality import Modality
from counterpoint.core.precision import wide
from counterpoint.model.likelihood import Likelihood
from counterpoint.nn.running import RunningMoments


class Counts(Likelihood, ABC):
    """Counts of features with total ℓ: NB(μ, θ) with μ = ℓ softmax(y).

    Attributes:
        log_dispersion: log θ, (features,); θ starts at 1.
        totals: moments of log ℓ over the training rows.

    >>> counts = NegativeBinomial(Modality("rna", (2,), "nb", None))
    >>> counts.size(torch.tensor([[3.0, 4.0]]))  # ℓ
    tensor([[7.]])
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality)
        self.log_dispersion = nn.Parameter(torch.zeros(modality.shape))
        self.totals = RunningMoments(1)

    def observe(self, x: Tensor, present: Tensor) -> None:
        total = x.sum(-1, keepdim=True)[present]
        self.totals(total[total[:, 0] > 0].log())

    @property
    def typical_total(self) -> Tensor:
        """The geometric mean of the totals of the training rows, (1,); 1 before
        training."""
        return self.totals.mean.exp()

    def size(self, x: Tensor | None) -> Tensor:
        """ℓ of generated rows, (B, 1) or (1,): their own totals, and the typical total
        for rows without counts."""
        if x is None:
            return self.typical_total
        own = x.sum(-1, keepdim=True)
        return torch.where(own > 0, own, self.typical_total)

    def logits(self, y: Tensor, size: Tensor) -> Tensor:
        """t = log μ − log θ, (..., B, features). ℓ is clamped to 1e-6, for rows of zeros
        only."""
        return size.clamp(min=1e-6).log() + torch.log_softmax(wide(y), -1) - self.log_dispersion

    def negative_binomial(self, y: Tensor, x: Tensor, size: Tensor) -> Tensor:
        """log NB(x; μ, θ) of each feature, (..., B, features)."""
        t = self.logits(y, size)
        # A small difference of large numbers; it does not depend on the latents.
        theta = self.log_dispersion.double().exp()
        n = x.double()
        ways = torch.lgamma(n + theta) - torch.lgamma(theta) - torch.lgamma(n + 1)
        dispersed = self.log_dispersion.exp() * F.softplus(t)
        counted = x * F.softplus(-t)
        return ways.to(t.dtype) - dispersed - counted

    def expected(self, y: Tensor, size: Tensor) -> Tensor:
        """μ."""
        return size * torch.softmax(wide(y), -1)

    def drawn(self, y: Tensor, size: Tensor) -> Tensor:
        """Sample NB(μ, θ)."""
        theta = self.log_dispersion.exp()
        t = self.logits(y, size)
        return noise.poisson(noise.gamma(theta.expand_as(t)) / (-t).exp())

    @abstractmethod
    def entries(self, raw: Tensor, x: Tensor, size: Tensor) -> Tensor:
        """log p(x | raw, ℓ) of each feature, (..., B, features)."""

    def log_prob(self, raw: Tensor, x: Tensor, there: Tensor | None = None) -> Tensor:
        """log p(x | raw, ℓ), ℓ the row's own total."""
        return self.total(self.entries(raw, x, x.sum(-1, keepdim=True)), there)


class NegativeBinomial(Counts):
    """Counts without inflation; raw outputs are y, (..., features).

    >>> counts = NegativeBinomial(Modality("rna", (2,), "nb", None))
    >>> counts.mean(torch.zeros(1, 2), torch.tensor([[3.0, 5.0]]))  # μ = ℓ/2
    tensor([[4., 4.]])
    """

    def mean(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        return self.expected(raw, self.size(x))

    def sample(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        return self.drawn(raw, self.size(x))

    def entries(self, raw: Tensor, x: Tensor, size: Tensor) -> Tensor:
        return self.negative_binomial(raw, x, size)


class ZeroInflated(Counts):
    """Zero-inflated counts. Raw outputs are (..., 2, features): y, and the logit of the
    probability π that a count was lost.

    >>> counts = ZeroInflated(Modality("rna", (2,), "zinb", None))
    >>> counts.mean(torch.zeros(1, 2, 2), torch.tensor([[3.0, 5.0]]))  # (1 − π) μ
    tensor([[2., 2.]])
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality)
        self.output_shape = (2, *modality.shape)

    def mean(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        y, lost = raw.unbind(-2)
        return torch.sigmoid(-wide(lost)) * self.expected(y, self.size(x))

    def sample(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        y, lost = raw.unbind(-2)
        return noise.bernoulli(torch.sigmoid(-wide(lost))) * self.drawn(y, self.size(x))

    def entries(self, raw: Tensor, x: Tensor, size: Tensor) -> Tensor:
        y, lost = raw.unbind(-2)
        lost = wide(lost)
        here = self.negative_binomial(y, x, size)
        return torch.where(x == 0, torch.logaddexp(lost, here), here) - F.softplus(lost)
