"""Scores as a table of text."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from counterpoint.metrics.groups import GROUPS
from counterpoint.metrics.score import FEW_MARK, FEW_NOTE, Metric, Score, Way, number

_HEAD = ("metric", "value", "chance", "95 % interval")


def table_of(
    scores: Sequence[Score],
    *,
    detail: bool = False,
    width: int = 100,
    folds: int | None = None,
    split: str = "test",
    notes: Sequence[str] = (),
) -> str:
    """Render scores as a table, with notes below it.

    The groups come in the order of :data:`counterpoint.metrics.groups.GROUPS`.

    Args:
        scores: the scores.
        detail: include those of single modalities that have a mean.
        width: columns of the terminal.
        folds: of cross-validated probes.
        split: the split that was measured.
        notes: further lines.
    """
    shown = ordered(scores, detail=detail)
    lines = [
        *([FEW_NOTE] if any(score.few for score in shown) else []),
        *([_folds_note(folds)] if folds else []),
        *notes,
        *(["measured on the validation split"] if split == "val" else []),
    ]
    below = (line for note in lines for line in textwrap.wrap(note, width))
    return _rendered(shown, width) + "".join(f"{line}\n" for line in below)


def ordered(scores: Sequence[Score], *, detail: bool) -> list[Score]:
    """The scores of a table in its order; without ``detail``, none of single modalities
    that has a mean."""
    means = {_mean_of(score) for score in scores if score.way == Way()}
    shown = [s for s in scores if detail or s.way == Way() or _mean_of(s) not in means]
    return sorted(shown, key=_place)  # stable: the order of measuring within a kind


def _folds_note(folds: int) -> str:
    return (
        f"probes are cross-validated in {folds} folds of the train rows "
        "and the held-out ones together"
    )


def _mean_of(score: Score) -> str:
    """The name of the mean over modalities that a score is part of."""
    return Metric.along(score, Way()).name


def _place(score: Score) -> tuple[int, int]:
    """Where a score stands in the table: by group, then by kind."""
    groups = [*GROUPS]
    if score.group not in GROUPS:
        return len(groups), 0
    kinds = GROUPS[score.group].kinds
    kind = kinds.index(score.kind) if score.kind in kinds else len(kinds)
    return groups.index(score.group), kind


def _cells(score: Score) -> tuple[str, str, str, str]:
    mark = FEW_MARK if score.few else ""
    chance = "" if score.chance is None else number(score.chance)
    return score.name, number(score.value) + mark, chance, score.spread()


def _rendered(scores: Sequence[Score], width: int) -> str:
    """A rich table if rich is installed, plain columns otherwise."""
    try:
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return _plain([_HEAD, *map(_cells, scores)])
    table = Table(box=SIMPLE)
    for i, title in enumerate(_HEAD):
        table.add_column(title, justify="left" if i == 0 else "right", no_wrap=True)
    for i, score in enumerate(scores):
        last = i + 1 == len(scores) or scores[i + 1].group != score.group
        table.add_row(*_cells(score), end_section=last)
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table)
    return out.getvalue()


def _plain(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    text = ""
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        text += "  ".join([first.ljust(widths[0]), *cells]).rstrip() + "\n"
    return text
