"""Loss: one part of what a method is trained by, and the terms that it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model

Terms = dict[str, Tensor]
"""Named loss terms, each of shape (B,): one value per example, lower is better. Only
the trainer weights, averages and logs them."""


class Loss(nn.Module, ABC):
    """One part of a method's loss. A step encodes once, asks every part for its draws,
    decodes all of them at once and hands each part its own outputs."""

    def check(self, model: Model) -> None:
        """Refuse, by ValueError, a model that this part can't train."""

    def draws(self, model: Model, encoding: Encoding) -> Sequence[Draw]:
        """What this part needs decoded."""
        return ()

    @abstractmethod
    def terms(
        self,
        model: Model,
        encoding: Encoding,
        draws: Sequence[Draw],
        decoded: Sequence[dict[str, Tensor]],
    ) -> Terms:
        """Named terms, (B,) each."""
