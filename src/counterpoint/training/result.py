"""The result of a fit, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Watch = Callable[[Mapping[str, float]], None]
"""Called with the means of every validation, by name."""


class NonFiniteLoss(ValueError):
    """A term of the loss became NaN or infinite.

    Attributes:
        term: which one.
        step: in which step, counted from 0.
    """

    def __init__(self, term: str, step: int, value: float) -> None:
        self.term = term
        self.step = step
        super().__init__(
            f"loss term {term!r} is {value} in step {step}; lower lr, set clip, or use precision='32-true'"
        )


@dataclass(frozen=True)
class FitResult:
    """The result of a run.

    Attributes:
        metrics: the last value of every column of the history.
        history: by column (``step``, ``epoch``, ``seconds``, ``train/<term>``,
            ``val/<term>``), one value per row; NaN if a row has none.
        steps: optimiser steps of the whole run, resumed parts included.
        best: the lowest ``val/loss``; ``None`` without validation.
        seconds: training time of this call, without validation.
        samples_per_second: training rows per second of that time, all processes
            together.
        folder: the run folder.
    """

    metrics: dict[str, float]
    history: dict[str, list[float]] = field(repr=False)
    steps: int
    best: float | None
    seconds: float
    samples_per_second: float
    folder: Path | None
