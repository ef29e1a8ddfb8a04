"""Loss: one part of what a method is trained by.

A loss answers a model and an encoding with an :class:`Ask`: the draws that it wants decoded,
and the function that turns what was decoded into named terms. A step asks all losses, decodes
all draws together, and hands each loss its own outputs, so that every decoder runs once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model

Terms = dict[str, Tensor]
"""Named loss terms, each of shape (B,): one value per example, lower is better. Only the
method weights and adds them, and only the trainer averages and logs them."""

Decoded = dict[str, Tensor]
"""Raw decoder outputs of one draw, by target, (K, B, *output_shape)."""


@dataclass(frozen=True)
class Ask:
    """What a loss wants decoded, and what follows from it.

    Attributes:
        draws: latents to decode.
        terms: from the decoded draws, in the same order, to named terms (B,).

    >>> ask = Ask((), lambda decoded: {"one": 1.0})
    >>> ask.terms(())
    {'one': 1.0}
    """

    draws: Sequence[Draw]
    terms: Callable[[Sequence[Decoded]], Terms]

    def answered(self, model: Model, covariates: Tensor | None) -> Terms:
        """The terms, with all draws decoded at once.

        Args:
            model: whose decoders run.
            covariates: of the rows, (B, C), as ``Model.decode`` takes them.
        """
        return self.terms(model.decode(self.draws, covariates))


def added(asks: Sequence[Ask], weights: Sequence[float] | None = None) -> Ask:
    """Join several asks into one; terms of the same name are added.

    Args:
        asks: of the parts.
        weights: factors on the terms of each; 1 without.

    Example:
        >>> import torch
        >>> one = Ask((), lambda decoded: {"a": torch.ones(2)})
        >>> added([one, one], weights=[1.0, 0.5]).terms([])
        {'a': tensor([1.5000, 1.5000])}
    """
    factors = [1.0] * len(asks) if weights is None else weights

    def terms(decoded: Sequence[Decoded]) -> Terms:
        outputs = iter(decoded)
        total: Terms = {}
        for ask, factor in zip(asks, factors, strict=True):
            for name, value in ask.terms([next(outputs) for _ in ask.draws]).items():
                total[name] = total[name] + factor * value if name in total else factor * value
        return total

    return Ask([draw for ask in asks for draw in ask.draws], terms)


class Loss(nn.Module, ABC):
    """One part of a method's loss; a subclass says what it wants decoded and what follows.

    >>> class Zero(Loss):
    ...     def forward(self, model, encoding):
    ...         return Ask((), lambda decoded: {"zero": 0 * encoding.shared["x"].loc.sum(-1)})
    >>> from counterpoint.objectives.stages import Ramp, Stage
    >>> Stage([(Zero(), Ramp(1.0))]).losses[0][0]
    Zero()
    """

    def check(self, model: Model) -> None:
        """Raise ValueError for a model that this loss can't train."""

    @abstractmethod
    def forward(self, model: Model, encoding: Encoding) -> Ask:
        """What to decode, and the terms that follow, (B,) each."""


class EncodingLoss(Loss):
    """A loss of what the encoders say alone, which has nothing decoded.

    >>> class Size(EncodingLoss):
    ...     def terms(self, model, encoding):
    ...         return {"size": sum(q.loc.square().sum(-1) for q in encoding.shared.values())}
    >>> import counterpoint as cp
    >>> x = cp.Modality("x", (3,))
    >>> model = cp.MVAE.from_config([x], {}).model
    >>> encoding = model.encode(cp.Batch.of({"x": [[0.0, 0.0, 0.0]]}, modalities=[x]))
    >>> [*Size()(model, encoding).answered(model, None)]
    ['size']
    """

    @abstractmethod
    def terms(self, model: Model, encoding: Encoding) -> Terms:
        """Named terms, (B,) each."""

    def forward(self, model: Model, encoding: Encoding) -> Ask:
        return Ask((), lambda decoded: self.terms(model, encoding))
