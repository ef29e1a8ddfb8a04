"""What a sweep measures: its cells, and their metrics."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np

Mechanism = Literal["random", "block", "test"]
"""How values are missing; see :mod:`counterpoint.studies.sweeping`."""


@dataclass(frozen=True)
class Cell:
    """One measurement of a sweep.

    Args:
        method: the name of the method.
        how: the mechanism; ``"complete"`` at rate 0, which is the same for all.
        rate: the fraction of missing values.
        seed: of the training.

    >>> from counterpoint.studies import Cell
    >>> Cell("mvae", "random", 0.5, 0).name
    'mvae-random-0.5-seed0'
    """

    method: str
    how: Mechanism | Literal["complete"]
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its evaluation file."""
        return f"{self.method}-{self.how}-{self.rate:g}-seed{self.seed}"

    @property
    def run(self) -> str:
        """The name of the run folder that it measures.

        ``test`` measures the run that was trained on complete rows.
        """
        return (replace(self, how="complete", rate=0.0) if self.how == "test" else self).name


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep.

    >>> cells = [(Cell("mvae", "random", rate, 0), {"probe": 1 - rate}) for rate in (0.0, 0.5)]
    >>> print(Sweep(tuple(cells), {}, ("probe",)).table(), end="")
    probe, random                                    0       0.5
      mvae                                           1       0.5

    Args:
        cells: what was measured, each with its metrics by name.
        failed: by the name of a cell, why it has no result.
        metrics: the names of those that are drawn and tabulated.
        chance: by metric, the score of guessing.
    """

    cells: tuple[tuple[Cell, dict[str, float]], ...]
    failed: dict[str, str]
    metrics: tuple[str, ...]
    chance: dict[str, float] = field(default_factory=dict)

    def curve(self, metric: str, method: str, how: str) -> dict[float, list[float]]:
        """Values over seeds, by rate. Rate 0 is that of complete rows."""
        values: dict[float, list[float]] = {}
        for cell, metrics in self.cells:
            if cell.method == method and cell.how in (how, "complete") and metric in metrics:
                values.setdefault(cell.rate, []).append(metrics[metric])
        return dict(sorted(values.items()))

    @property
    def methods(self) -> list[str]:
        """The names of the methods."""
        return [*dict.fromkeys(cell.method for cell, _ in self.cells)]

    @property
    def hows(self) -> list[str]:
        """The mechanisms; ``"complete"`` alone where nothing else was measured."""
        return [*dict.fromkeys(cell.how for cell, _ in self.cells if cell.how != "complete")] or [
            "complete"
        ]

    def drawn(self, metric: str, how: str) -> bool:
        """Whether a metric was measured of a mechanism."""
        return any(cell.how == how and metric in metrics for cell, metrics in self.cells)

    def table(self) -> str:
        """Render means over seeds: a block for each mechanism and metric, a line for
        each method, a column for each rate."""
        lines = []
        for how in self.hows:
            for metric in (m for m in self.metrics if self.drawn(m, how)):
                curves = {name: self.curve(metric, name, how) for name in self.methods}
                rates = sorted({rate for curve in curves.values() for rate in curve})
                lines.append(
                    f"{metric}, {how}".ljust(40) + "".join(f"{rate:>10g}" for rate in rates)
                )
                for name, curve in curves.items():
                    values = (
                        f"{np.mean(curve[rate]):10.4g}" if rate in curve else " " * 10
                        for rate in rates
                    )
                    lines.append(f"  {name}".ljust(40) + "".join(values))
        return "".join(line.rstrip() + "\n" for line in lines)

    def json(self) -> str:
        """``{"runs": [{"method", "how", "rate", "seed", "metrics"}], "chance",
        "failed"}``."""
        runs = [{**asdict(cell), "metrics": metrics} for cell, metrics in self.cells]
        return (
            json.dumps(
                {"runs": runs, "chance": self.chance, "failed": self.failed},
                indent=2,
                allow_nan=False,
            )
            + "\n"
        )
