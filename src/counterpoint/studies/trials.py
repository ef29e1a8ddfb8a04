"""The results of a search: its trials, and the best of them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Direction = Literal["maximize", "minimize"]
State = Literal["complete", "pruned", "failed", "interrupted"]
Prune = Literal["median", "halving", "none"]

COUNTED_STATES: tuple[State, ...] = ("complete", "pruned", "failed")
"""Of trials that count; interrupted ones are begun again."""

LOSS_METRIC = "val/loss"
"""The loss on the validation split, the default metric of a search."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    >>> Trial(0, "complete", 7.5, {"fit.lr": 0.001}, 2.0, "").value
    7.5

    Args:
        number: in order, from 0.
        state: how it ended.
        value: of the metric; None if it has none.
        values: of the searched fields, by dotted name.
        seconds: of training and measuring.
        reason: why there is no value.
    """

    number: int
    state: State
    value: float | None
    values: dict[str, Any]
    seconds: float
    reason: str


@dataclass(frozen=True)
class Tuning:
    """The results of a search.

    >>> trials = Trial(0, "complete", 7.5, {}, 2.0, ""), Trial(1, "complete", 6.5, {}, 2.0, "")
    >>> Tuning("val/loss", "minimize", trials, None).best.number
    1

    Args:
        metric, direction: what was optimised.
        trials: in order, with interrupted ones.
        config: ``best.yaml``, for ``counterpoint fit --config``; None if no trial has a
            value.
    """

    metric: str
    direction: Direction
    trials: tuple[Trial, ...]
    config: Path | None

    @property
    def best(self) -> Trial | None:
        """The trial with the best value, the first of equal ones."""
        return next(iter(self._ranked), None)

    @property
    def _ranked(self) -> list[Trial]:
        sign = -1 if self.direction == "maximize" else 1
        return sorted(
            (t for t in self.trials if t.value is not None), key=lambda t: sign * (t.value or 0.0)
        )

    @property
    def fields(self) -> list[str]:
        """The searched fields, by dotted name."""
        return [*dict.fromkeys(name for trial in self.trials for name in trial.values)]

    def csv(self) -> str:
        """Render the trials in order as a CSV table."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", "state", self.metric, *self.fields, "seconds", "reason"])
        for t in self.trials:
            writer.writerow(
                [
                    t.number,
                    t.state,
                    t.value,
                    *(t.values.get(f) for f in self.fields),
                    t.seconds,
                    t.reason,
                ]
            )
        return text.getvalue()

    def table(self) -> str:
        """Render the trials as text, best first."""
        fields = self.fields
        rows = [["trial", self.metric, *fields, "seconds", ""]]
        for t in (*self._ranked, *(t for t in self.trials if t.value is None)):
            value = "" if t.value is None else f"{t.value:.4g}"
            why = f"{t.state}: {t.reason}" if t.reason else ""
            rows.append(
                [
                    str(t.number),
                    value,
                    *(_short(t.values.get(f, "")) for f in fields),
                    f"{t.seconds:.1f}",
                    why,
                ]
            )
        columns = range(len(fields) + 3)
        widths = [max(len(row[i]) for row in rows) for i in columns]
        lines = (
            "  ".join([*(cell.rjust(w) for cell, w in zip(row, widths, strict=False)), row[-1]])
            for row in rows
        )
        return "".join(line.rstrip() + "\n" for line in lines)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
