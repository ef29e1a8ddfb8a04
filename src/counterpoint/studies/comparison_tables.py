"""The table of a comparison: as text, Markdown, CSV and LaTeX.

Rows are methods, columns metrics, and below them chance and the judges' ceiling. A cell
is the mean over repetitions ± the sample standard deviation. The best of a column and
those that can't be told from it are marked. Notes say how.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from counterpoint.metrics.score import FEW_MARK, FEW_NOTE
from counterpoint.studies.comparison import Cell, Column, Comparison, Cost

ARROWS = {"higher": "↑", "lower": "↓", None: ""}

COST_TITLES = (
    "mean rank ↓",
    "minutes",
    "processor minutes",
    "steps",
    "peak memory, MB",
    "parameters",
)

CLOSE_MARK = "≈"

_HEADER = ("entry", "metric", "mean", "std", "low", "high", "n")
_DIFFERENCE = ("difference", "difference_low", "difference_high", "p", "p_holm", "best", "close")


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are texts.

    Args:
        head: names of the columns.
        rows: by row, its name and its cells.
        best: row and column of the cells in bold.
        notes: sentences below it.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = ()


def as_files(found: Comparison) -> dict[str, str]:
    """By suffix, the contents of the files of a comparison."""
    return {".md": markdown(found), ".csv": comma_separated(found), ".tex": latex(found)}


def score_table(found: Comparison) -> TextTable:
    """Methods by metrics."""
    rows = []
    best = set()
    for i, entry in enumerate(found.entries):
        cells = []
        for j, column in enumerate(found.columns):
            cell = column.cells.get(entry)
            cells.append("–" if cell is None else text_of(cell))
            if cell is not None and cell.best:
                best.add((i, j))
        rows.append((entry, tuple(cells)))
    chances = [column.chance for column in found.columns]
    ceilings = [column.ceiling for column in found.columns]
    for name, values in (("chance", chances), ("judges on real data", ceilings)):
        cells = ["" if value is None else number(value) for value in values]
        if any(cells):
            rows.append((name, tuple(cells)))
    return TextTable(
        _titles(found.columns),
        tuple(rows),
        frozenset(best),
        tuple(_notes(found)),
    )


def difference_table(found: Comparison) -> TextTable:
    """Paired differences to the baseline, with the corrected p-value."""
    columns = [column for column in found.columns if _differs(column)]
    if not columns:
        return TextTable((), ())
    rows = []
    for entry in found.entries:
        if entry == found.baseline:
            continue
        cells = [_difference(column.cells.get(entry)) for column in columns]
        rows.append((entry, tuple(cells)))
    return TextTable(_titles(columns), tuple(rows))


def _titles(columns: Sequence[Column]) -> tuple[str, ...]:
    """Names of metrics, with an arrow to the better end."""
    titles = []
    for column in columns:
        arrow = ARROWS[column.better]
        titles.append(f"{column.metric} {arrow}".strip())
    return tuple(titles)


def cost_table(found: Comparison) -> TextTable:
    """Ranks and costs of the methods."""
    rows = []
    for entry in found.entries:
        rank = found.mean_ranks.get(entry)
        shown = "–" if rank is None else f"{rank:.2f}"
        rows.append((entry, (shown, *_costs(found.costs(entry)))))
    return TextTable(COST_TITLES, tuple(rows))


def text(found: Comparison) -> str:
    """The table for a terminal: a line for each metric, a column for each method."""
    table = score_table(found)
    names = [name for name, _ in table.rows]
    lines = [["", *names]]
    for j, metric in enumerate(table.head):
        lines.append([metric, *(_marked(table, i, j, "{} !") for i in range(len(names)))])
    costs = cost_table(found)
    for j, title in enumerate(costs.head):
        cells = [cells[j] for _, cells in costs.rows]
        if any(cell != "–" for cell in cells):
            lines.append([title, *cells, *[""] * (len(names) - len(cells))])
    return _aligned(lines) + "".join(f"{note}\n" for note in ("! the best mean", *table.notes))


def markdown(found: Comparison) -> str:
    """The tables as Markdown: scores, differences, costs."""
    tables = {
        "": score_table(found),
        f"Difference to {found.baseline}, with p of the paired t-test (Holm)": difference_table(
            found
        ),
        "Ranks and costs": cost_table(found),
    }
    parts = [f"# {', '.join(found.entries)} on {found.data}\n"]
    for title, table in tables.items():
        if table.rows:
            parts += [f"\n## {title}\n"] if title else []
            parts.append("\n" + _markdown(table))
    parts += [f"- {name} came to nothing: {reason}\n" for name, reason in found.failed.items()]
    return "".join(parts)


def comma_separated(found: Comparison) -> str:
    """A line for each method and metric, all figures in full precision."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow((*_HEADER, *_DIFFERENCE, "chance", "judge"))
    for column in found.columns:
        for entry, cell in column.cells.items():
            mean_and_difference = (*_summarised(cell), *_compared(cell))
            marks = (int(cell.best), int(cell.close))
            ends = (column.chance, column.ceiling)
            figures = (*mean_and_difference, *marks, *ends)
            shown = ["" if figure is None else figure for figure in figures]
            writer.writerow((entry, column.metric, *shown))
    return content.getvalue()


Figures = tuple[float | None, ...]


def _summarised(cell: Cell) -> Figures:
    """Mean, deviation, ends of the interval, number of repetitions."""
    summary = cell.summary
    low, high = summary.interval or (None, None)
    return summary.mean, summary.std, low, high, summary.n


def _compared(cell: Cell) -> Figures:
    """The difference, ends of its interval, p and the corrected p."""
    difference = cell.difference
    if difference is None:
        return (None,) * 5
    low, high = difference.interval or (None, None)
    return difference.mean, low, high, difference.p, cell.p


def latex(found: Comparison) -> str:
    """The table of scores for a paper, with booktabs."""
    table = score_table(found)
    lines = [
        f"% {', '.join(found.entries)} on {found.data}; needs \\usepackage{{booktabs}}",
        f"\\begin{{tabular}}{{l{'c' * len(table.head)}}}",
        "\\toprule",
        " & ".join(["", *map(_escaped, table.head)]) + " \\\\",
        "\\midrule",
    ]
    for i, (name, cells) in enumerate(table.rows):
        if i == len(found.entries):
            lines.append("\\midrule")
        texts = [_marked(table, i, j, "\\textbf{{{}}}", _escaped) for j in range(len(cells))]
        lines.append(" & ".join([_escaped(name), *texts]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


# ----------------------------------------------------------------------------------- cells


def text_of(cell: Cell) -> str:
    """A mean, its deviation and its marks.

    >>> from counterpoint.studies.statistics import summary
    >>> text_of(Cell(summary([0.9, 0.94]), close=True))
    '0.920 ± 0.028≈'
    """
    s = cell.summary
    spread = "" if s.std is None else f" ± {number(s.std)}"
    return f"{number(s.mean)}{spread}{CLOSE_MARK * cell.close}{FEW_MARK * cell.few}"


def number(value: float) -> str:
    """Three decimals, fewer of large numbers.

    >>> number(0.25), number(-46.123), number(1265.4)
    ('0.250', '-46.12', '1265')
    """
    size = abs(value)
    return f"{value:.3f}" if size < 10 else f"{value:.2f}" if size < 100 else f"{value:.0f}"


def _difference(cell: Cell | None) -> str:
    if cell is None or cell.difference is None:
        return "–"
    p = "" if cell.p is None else f" (p = {cell.p:.2g})"
    return f"{'+' if cell.difference.mean > 0 else ''}{number(cell.difference.mean)}{p}"


def _differs(column: Column) -> bool:
    return any(cell.difference is not None for cell in column.cells.values())


def _costs(costs: Sequence[Cost]) -> tuple[str, ...]:
    """Means over runs; a dash where nothing is known."""
    if not costs:
        return ("–",) * 5
    peaks = [cost.peak_bytes for cost in costs if cost.peak_bytes is not None]
    return (
        f"{mean(cost.seconds for cost in costs) / 60:.1f}",
        f"{mean(cost.cpu_seconds for cost in costs) / 60:.1f}",
        f"{mean(cost.steps for cost in costs):,.0f}",
        f"{mean(peaks) / 1e6:,.0f}" if peaks else "–",
        f"{mean(cost.parameters for cost in costs):,.0f}",
    )


def _notes(found: Comparison) -> list[str]:
    cells = [cell for column in found.columns for cell in column.cells.values()]
    most = max((cell.summary.n for cell in cells), default=1)
    notes = []
    if most > 1:
        notes.append(f"Mean ± sample standard deviation over {most} repetitions.")
    if any(cell.close for cell in cells):
        notes.append(
            f"{CLOSE_MARK} not distinguishable from the best: paired t-test, p > .05 after Holm."
            if most > 1
            else f"{CLOSE_MARK} one run each: no test, so the order is not shown to hold."
        )
    if any(cell.few for cell in cells):
        notes.append(FEW_NOTE)
    leaks = [column.metric for column in found.columns if column.leak]
    if leaks:
        notes.append(f"Leaks, where chance is best: {', '.join(leaks)}.")
    return notes


# --------------------------------------------------------------------------------- layouts


def _marked(
    table: TextTable, i: int, j: int, bold: str, escaped: Callable[[str], str] = str
) -> str:
    cell = escaped(table.rows[i][1][j])
    return bold.format(cell) if (i, j) in table.best else cell


def _markdown(table: TextTable) -> str:
    lines = [["", *table.head], ["---"] * (len(table.head) + 1)]
    for i, (name, cells) in enumerate(table.rows):
        lines.append([name, *(_marked(table, i, j, "**{}**") for j in range(len(cells)))])
    rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return rows + "".join(f"\n{note}\n" for note in table.notes)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    rows = []
    for line in lines:
        first, *rest = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        rows.append("  ".join([first, *rest]).rstrip())
    return "\n".join(rows) + "\n"


_LATEX: Mapping[str, str] = {
    "_": "\\_",
    "&": "\\&",
    "%": "\\%",
    "#": "\\#",
    "↑": "$\\uparrow$",
    "↓": "$\\downarrow$",
    "±": "$\\pm$",
    "≈": "$^{\\approx}$",
    "–": "--",
    "→": "$\\to$",
    ">": "$>$",
    "*": "$^{*}$",
}


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
