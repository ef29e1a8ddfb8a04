"""The page of a comparison: one HTML file with tables, figures and the same rows by
every method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from counterpoint import figures
from counterpoint.methods import load
from counterpoint.report.html import write_page
from counterpoint.report.plates import Plate, inline
from counterpoint.studies import comparison_tables as tables
from counterpoint.studies.comparison import Comparison
from counterpoint.studies.comparison_figures import curves, scatter, trade_offs

if TYPE_CHECKING:
    from counterpoint.data import Dataset


def write_comparison(found: Comparison, data: Dataset, folder: Path) -> Path:
    """Write ``comparison.html`` into the folder of a comparison.

    Args:
        found: the results.
        data: the data set, whose test rows are shown.
        folder: that of the comparison, with the runs.
    """
    path = folder / "comparison.html"
    page = {
        "entries": found.entries,
        "data": found.data,
        "runs": len(found.runs),
        "baseline": found.baseline,
        "failed": found.failed,
        "scores": tables.score_table(found),
        "differences": tables.difference_table(found),
        "costs": tables.cost_table(found),
        "plots": _plots(found),
        "curves": _curves(found, folder),
        "pictures": _pictures(found, data, folder),
    }
    write_page("comparison.html", page, path)
    return path


def run_folder(folder: Path, entry: str, repetition: object) -> Path:
    """Where a run of a comparison is trained."""
    return folder / "runs" / f"{entry}-{repetition}"


def _plots(found: Comparison) -> list[Plate]:
    plates = []
    for title, (x, y) in trade_offs(found).items():
        plates.append(inline(scatter(found, x, y), title, f"{title}; dashed lines are chance."))
    return plates


def _curves(found: Comparison, folder: Path) -> Plate | None:
    histories: dict[str, list[Path]] = {}
    for run in found.runs:
        history = run_folder(folder, run.entry, run.repetition) / "metrics.csv"
        if history.is_file():
            histories.setdefault(run.entry, []).append(history)
    figure = curves(histories)
    caption = "The loss on validation rows, against steps (above) and minutes of training (below)."
    return None if figure is None else inline(figure, "Learning curves", caption)


def _pictures(found: Comparison, data: Dataset, folder: Path) -> list[Plate]:
    """Translations of the same rows by the first run of every method."""
    plates = []
    for entry in found.entries:
        run = next((run for run in found.runs if run.entry == entry), None)
        if run is None or not figures.has_complete_rows(data.test):
            continue
        place = run_folder(folder, entry, run.repetition)
        if not (place / "model").is_dir():
            continue
        figure = figures.cross_generation(load(place), data.test)
        plates.append(inline(figure, f"Translations by {entry}", f"{entry}, {run.repetition}."))
    return plates
