"""The history of a run: metrics.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from counterpoint.core.files import append, write


class History:
    """Rows of named numbers, in memory and in metrics.csv if there is a run folder.

    Args:
        path: the file; ``None`` keeps the rows in memory only.

    Attributes:
        before: steps of the stages before this one. Rows are added with the step of
            their stage, and stored with the step of the whole run.

    >>> history = History(None)
    >>> history.add({"step": 1, "train/loss": 0.5})
    >>> history.latest()
    {'step': 1, 'train/loss': 0.5}
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.before = 0
        self.rows: list[dict[str, float]] = []
        self._columns: list[str] = []

    def add(self, row: dict[str, float]) -> None:
        """Append one row. A new column rewrites the file; else a line is appended, whole
        or not at all."""
        row = {**row, "step": self.before + int(row["step"])}
        self.rows.append(row)
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if self.path is None:
            return
        if new:
            self._rewrite()
        else:
            append(self.path, self._line(row).encode())

    def rewind(self, step: int) -> None:
        """Read the rows of an interrupted run, and drop those after ``step`` of this
        stage: these steps are trained again.

        Raises:
            ValueError: the file is damaged.
        """
        if self.path is None or not self.path.exists():
            return
        self.rows = [row for row in read_rows(self.path) if row["step"] <= self.before + step]
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        self._rewrite()

    def has(self, step: int, name: str) -> bool:
        """Whether there is a value of that name at a step of this stage."""
        return any(row["step"] == self.before + step and name in row for row in self.rows)

    def columns(self) -> dict[str, list[float]]:
        """By name, one value per row; NaN if a row has none."""
        return {name: [row.get(name, math.nan) for row in self.rows] for name in self._columns}

    def latest(self) -> dict[str, float]:
        """By name, the last value that was written."""
        return {name: value for row in self.rows for name, value in row.items()}

    def _line(self, row: Mapping[str, float]) -> str:
        return ",".join(repr(row[name]) if name in row else "" for name in self._columns) + "\n"

    def _rewrite(self) -> None:
        if self.path is not None:
            write(
                self.path,
                "".join([",".join(self._columns) + "\n", *map(self._line, self.rows)]).encode(),
            )


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv; none where there is no file. A last line that was cut
    off is left out.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.exists():
        return []
    number = 1
    try:
        header, *lines = path.read_bytes().decode().split("\n")[:-1]
        columns = header.split(",")
        if header and "step" not in columns:
            raise KeyError("no column step")
        rows = []
        for line in lines:
            number += 1
            cells = zip(columns, line.split(","), strict=True)
            row = {name: float(cell) for name, cell in cells if cell}
            rows.append(
                row
                | {
                    name: int(row[name])
                    for name in ("step", "epoch")
                    if name == "step" or name in row
                }
            )
        return rows
    except (ValueError, KeyError, OverflowError) as error:
        remedy = "restore it, or remove it, and the run keeps no record of its steps so far"
        raise ValueError(f"{path} is damaged in line {number} ({error}); {remedy}") from error
