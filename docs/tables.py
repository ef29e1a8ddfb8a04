"""Write the tables of the documentation from the JSON files in ``benchmarks/results``.

    python docs/tables.py            write every table between its markers
    python docs/tables.py --check    name the pages that are out of date, and exit with 1

A page marks the place of a table by ``<!-- table: NAME -->`` and ``<!-- end -->``. Its
cells are in ``benchmarks/results/tables/NAME.json``:

    {"source": "the command or page that the figures are from",
     "columns": [{"name": "FID", "format": ".1f", "best": "min"}, ...],
     "rows": [{"label": "IDMVAE", "cells": [23.6, ...]}, ...]}

A cell is a number, a list of numbers (one a seed), text, null, or a reference to a
measurement: ``{"file": "idmvae", "run": 4, "metric": "probe/z/digit"}``. Without a run it
is the mean over the seeds of the file, or their range with ``"show": "range"``. ``"best"``
prints the best number of a column in bold; rows with ``"published": true`` do not compete.

A table may also be a part of another one, under other labels:

    {"part": "jnf", "columns": ["given 1 view", "2"], "rows": {"MoPoE": "ours, 12 minutes"}}
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """README.md and every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def measured(reference: dict[str, Any]) -> float:
    """The number that a reference names, or the mean over seeds."""
    values = measurements(reference)
    return sum(values) / len(values)


def measurements(reference: dict[str, Any]) -> list[float]:
    """The numbers that a reference names: of one run, or of each seed."""
    content = json.loads((RESULTS / f"{reference['file']}.json").read_text())
    metric = reference["metric"]
    if "run" in reference:
        return [float(content["runs"][reference["run"]]["metrics"][metric])]
    return [float(scores[metric]["value"]) for scores in content["seeds"].values()]


def number(value: float, form: str) -> str:
    """A number without the zero before its point: .978."""
    return re.sub(r"^(-?)0\.", r"\1.", format(value, form))


def text(cell: Any, form: str) -> str:
    """One cell as markdown."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, list):
        return " / ".join(number(value, form) for value in cell)
    if isinstance(cell, dict) and cell.get("show") == "range":
        values = measurements(cell)
        ends = dict.fromkeys(number(value, form) for value in (min(values), max(values)))
        return " to ".join(ends)
    return number(measured(cell) if isinstance(cell, dict) else cell, form)


def rank(cell: Any) -> float | None:
    """What a cell competes by: its number, or the mean over its seeds."""
    if cell is None or isinstance(cell, str):
        return None
    if isinstance(cell, list):
        return sum(cell) / len(cell)
    return measured(cell) if isinstance(cell, dict) else float(cell)


def column_of(rows: list[dict[str, Any]], index: int, column: dict[str, Any]) -> list[str]:
    """One column as markdown, its best number in bold."""
    cells = [row["cells"][index] for row in rows]
    form = column.get("format", ".3f")
    written = [text(cell, form) for cell in cells]
    if "best" not in column:
        return written
    ranks = [
        None if row.get("published") else rank(cell) for row, cell in zip(rows, cells, strict=True)
    ]
    known = [value for value in ranks if value is not None]
    top = max(known) if column["best"] == "max" else min(known)
    return [
        f"**{word}**" if value == top else word for word, value in zip(written, ranks, strict=True)
    ]


def read(name: str) -> dict[str, Any]:
    """A table with columns and rows of its own, or of the table that it is a part of."""
    table: dict[str, Any] = json.loads((RESULTS / "tables" / f"{name}.json").read_text())
    return part(read(table["part"]), table) if "part" in table else table


def part(whole: dict[str, Any], view: dict[str, Any]) -> dict[str, Any]:
    """Some columns and rows of a table, the rows under other labels."""
    names = [column["name"] for column in whole["columns"]]
    places = [names.index(name) for name in view["columns"]]
    rows = {row["label"]: row for row in whole["rows"]}
    return {
        "corner": view.get("corner", ""),
        "columns": [
            {"name": names[i], "format": whole["columns"][i].get("format", ".3f")} for i in places
        ],
        "rows": [
            {"label": label, "cells": [rows[name]["cells"][i] for i in places]}
            for name, label in view["rows"].items()
        ],
    }


def rendered(table: dict[str, Any]) -> str:
    """A table as markdown."""
    columns, rows = table["columns"], table["rows"]
    for row in rows:
        if len(row["cells"]) != len(columns):
            raise ValueError(
                f"row {row['label']!r} has {len(row['cells'])} cells, not {len(columns)}"
            )
    body = [column_of(rows, i, column) for i, column in enumerate(columns)]
    head = [table.get("corner", ""), *(column["name"] for column in columns)]
    lines = [head, ["---"] * len(head)]
    lines += [
        [row["label"], *cells] for row, cells in zip(rows, zip(*body, strict=True), strict=True)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def updated(page: str) -> str:
    """A page with every marked table written anew."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{rendered(read(match['name']))}\n{match[3]}"

    return MARKED.sub(table, page)


def main(arguments: list[str]) -> int:
    """Write all tables, or with ``--check`` only name the pages that would change."""
    stale = [path for path in pages() if updated(path.read_text()) != path.read_text()]
    for path in stale:
        print(path.relative_to(ROOT))
        if "--check" not in arguments:
            path.write_text(updated(path.read_text()))
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
