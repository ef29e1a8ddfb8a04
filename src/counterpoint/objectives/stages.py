"""Training as data: what the parts of a loss weigh over time, and who learns when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.objectives.loss import Loss, Terms, added


@dataclass(frozen=True)
class Ramp:
    """A weight over training steps: 0 before ``start``, linear up to ``value`` at
    ``end``, constant from there on.

    Without a step it is ``value``, the weight in the objective that the stage comes to,
    by which weights are validated.

    >>> ramp = Ramp(2.0, start=100, end=199)
    >>> [ramp(step) for step in (0, 149, 300, None)]
    [0.0, 1.0, 2.0, 2.0]
    """

    value: float
    start: int = 0
    end: int = 0

    def __post_init__(self) -> None:
        if self.value < 0 or not 0 <= self.start <= self.end:
            raise ValueError(f"a ramp needs value >= 0 and 0 <= start <= end, got {self}")

    def __call__(self, step: int | None) -> float:
        if step is None:
            return self.value
        if step < self.start:
            return 0.0
        if step >= self.end:
            return self.value
        return self.value * (step - self.start + 1) / (self.end - self.start + 1)


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    >>> from counterpoint.objectives.matching import PosteriorMatch
    >>> Stage([(PosteriorMatch(weight=1.0), Ramp(0.1))], name="match").name
    'match'

    Args:
        losses: the parts of the loss and their weights over the steps of this stage.
        name: how the progress bar, the options and the checkpoints call it; empty where
            it is the only one.
        trains: the modules that learn; all others are frozen and in evaluation mode.
            None: everything learns.
    """

    losses: Sequence[tuple[Loss, Ramp]]
    name: str = ""
    trains: Sequence[nn.Module] | None = None

    def terms(self, model: Model, encoding: Encoding, step: int | None = None) -> Terms:
        """Weighted named terms, (B,) each. Every decoder runs once, on all draws. Losses
        of weight 0 are skipped.

        Args:
            model: what is trained.
            encoding: of a batch.
            step: of this stage; None takes the final weights.
        """
        active = [(loss, weight) for loss, ramp in self.losses if (weight := ramp(step)) > 0]
        asks = [loss(model, encoding) for loss, _ in active]
        ask = added(asks, [weight for _, weight in active])
        return ask.answered(model, encoding.batch.covariates)
