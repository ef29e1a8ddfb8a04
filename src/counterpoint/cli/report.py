"""``counterpoint report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.cli import choose
from counterpoint.cli.names import gathered
from counterpoint.cli.parsing import called
from counterpoint.cli.runs import measured, opened, reported


@dataclass(frozen=True)
class ReportOptions:
    """Write one self-contained HTML file about a run.

    Args:
        run: run folder. Without an evaluation.json, everything is measured first.
        out: the file; RUN/report.html by default.
        maps: list of pca, tsne and umap; all that are installed by default.
        seed: seed of the choice of examples.
    """

    run: Path
    out: Path | None = None
    maps: tuple[str, ...] | None = None
    seed: int = 0


def run(words: Sequence[str]) -> None:
    """Write one HTML file about a run."""
    wanted = called(ReportOptions, "report", gathered(words, ("maps",)))
    from counterpoint.figures import MAPS

    for kind in wanted.maps or ():
        choose(kind, MAPS, "map")
    method, data = opened(wanted.run)
    evaluation = measured(method, data, wanted.run)
    path = reported(
        method,
        data,
        evaluation,
        wanted.run,
        out=wanted.out,
        maps=wanted.maps,
        seed=wanted.seed,
    )
    print(path)
