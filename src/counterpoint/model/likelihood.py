"""What every likelihood does; :mod:`counterpoint.model.likelihoods` has them all."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from counterpoint.core.modality import Modality


class Likelihood(nn.Module, ABC):
    """Maps raw decoder outputs (..., B, *output_shape) and values (B, *shape) to
    log-densities (..., B).

    A likelihood of your own overrides ``mean``, ``sample`` and ``log_prob``, and gets a
    name by :func:`register_likelihood`.

    >>> import torch
    >>> from counterpoint.core.modality import Modality
    >>> class Cauchy(Likelihood):
    ...     def mean(self, raw, x=None):
    ...         return raw
    ...     def sample(self, raw, x=None):
    ...         return torch.distributions.Cauchy(raw, 1.0).sample()
    ...     def log_prob(self, raw, x, there=None):
    ...         return self.total(torch.distributions.Cauchy(raw, 1.0).log_prob(x), there)
    >>> likelihood = Cauchy(Modality("x", (2,), "normal"))
    >>> likelihood.log_prob(torch.zeros(1, 5, 2), torch.zeros(5, 2)).shape
    torch.Size([1, 5])
    """

    exact = True
    """Whether ``log_prob`` is a density. Surrogates have False and refuse
    importance-sampled likelihoods."""

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.shape = modality.shape
        self.gaps = modality.gaps
        self.output_shape: tuple[int, ...] = modality.shape

    @abstractmethod
    def mean(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        """E[x | raw], differentiable; for words, the probabilities (..., B, length,
        vocabulary).

        Args:
            raw: outputs of the decoder.
            x: the values of the same rows, (B, *shape), zeros in rows without; counts
                take their totals from them.
        """

    def draft(self, raw: Tensor) -> Tensor:
        """The mean, or a cheap substitute if the mean is slow, for losses that
        differentiate through generated values."""
        return self.mean(raw)

    @abstractmethod
    def sample(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        """Sample x given raw outputs, (..., B, *shape), by
        :mod:`counterpoint.core.noise`; ``x`` as in ``mean``."""

    def observe(self, x: Tensor, present: Tensor) -> None:
        """Track, in training, statistics that generation needs, of values (B, *shape)
        in present rows (B,)."""

    @abstractmethod
    def log_prob(self, raw: Tensor, x: Tensor, there: Tensor | None = None) -> Tensor:
        """log p(x | raw) of the entries that are ``there`` (B, *shape), all by default;
        (..., B), in float32 for networks of any precision."""

    def total(self, entries: Tensor, there: Tensor | None = None) -> Tensor:
        """Sum over the event axes, of the entries that are there."""
        return (entries if there is None else entries * there).flatten(-len(self.shape)).sum(-1)
