"""The result of a fit, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from counterpoint.core.display import html_table

Watch = Callable[[Mapping[str, float]], None]
"""Called with the means of every validation, by name."""


class NonFiniteLoss(ValueError):
    """A term of the loss became NaN or infinite.

    Attributes:
        term: which one.
        step: in which step, counted from 0.

    >>> str(NonFiniteLoss("kl", 7, float("nan")))[:31]
    "loss term 'kl' is nan in step 7"
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

    >>> history = {"val/loss": [9.0, 7.5]}
    >>> FitResult({"val/loss": 7.5}, history, 100, 7.5, 2.0, 640.0, None)
    FitResult(100 steps in 2 s, 640 rows/s, lowest val/loss 7.5)
    """

    metrics: dict[str, float]
    history: dict[str, list[float]] = field(repr=False)
    steps: int
    best: float | None
    seconds: float
    samples_per_second: float
    folder: Path | None

    def __repr__(self) -> str:
        return f"FitResult({self._title()})"

    def _repr_html_(self) -> str:
        """The last value of each loss, for notebooks."""
        losses = [(name, f"{value:.4g}") for name, value in self.metrics.items() if "/" in name]
        return html_table(f"FitResult: {self._title()}", ["loss", "last value"], losses)

    def _title(self) -> str:
        speed = (
            f"{self.steps:,} steps in {self.seconds:.3g} s, {self.samples_per_second:,.0f} rows/s"
        )
        best = "" if self.best is None else f", lowest val/loss {self.best:.4g}"
        folder = "" if self.folder is None else f", in {self.folder}"
        return speed + best + folder
