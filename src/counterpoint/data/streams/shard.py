"""Shards: files that hold the rows of a data set too large for memory, and are read a
chunk of rows at a time.

Parquet (https://parquet.apache.org), also as Hugging Face's datasets write it: a chunk
is a row group. A column is a modality or a label, and a null is absent. Images are
bytes, or a struct of ``bytes`` and ``path``.

Tar as webdataset has it (https://github.com/webdataset/webdataset): consecutive members
``KEY.EXTENSION`` of one KEY are a row, and a member that is not there is absent. A
chunk is a run of rows; where it begins is found by one pass over the headers. Read with
the standard library: the webdataset library reads archives from their beginning only,
and unpickles members. What is pickled is refused here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.data.split import Array


@dataclass(frozen=True)
class Broken:
    """Stand for a value that could not be read, and say why."""

    why: str


@dataclass(frozen=True)
class Cells:
    """What a column holds in some rows.

    Attributes:
        values: of the rows that have one: bytes, text, numbers or lists, or one array
            with a row each.
        present: (N,) bool, which rows have one.
    """

    values: Sequence[Any] | Array
    present: Array

    @staticmethod
    def of(cells: Sequence[Any]) -> Cells:
        """Make cells from one value a row; None where a row has none."""
        return Cells(
            [cell for cell in cells if cell is not None],
            np.array([cell is not None for cell in cells], bool),
        )

    def take(self, rows: Array) -> Cells:
        """Return the cells of the chosen rows (indices)."""
        if len(rows) == len(self.present) and (rows == np.arange(len(rows))).all():
            return self
        place = np.cumsum(self.present) - 1
        chosen = place[rows][self.present[rows]]
        values = (
            self.values[chosen]
            if isinstance(self.values, np.ndarray)
            else [self.values[i] for i in chosen]
        )
        return Cells(values, self.present[rows])


@dataclass(frozen=True)
class Survey:
    """What one look at a shard shows.

    Attributes:
        chunks: where each chunk begins (a row group's number, a byte), and its number
            of rows.
        columns: by name, how it is stored; what differs between shards is not the same
            column.
        ends_early: why rows after these cannot be read, if they cannot.
    """

    chunks: tuple[tuple[int, int], ...]
    columns: dict[str, str]
    ends_early: str | None = None


class Shard(ABC):
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def survey(self) -> Survey:
        """Look at the whole file, but for values.

        Raises:
            ValueError: it is no file of its kind, or none of its rows can be read.
        """

    @abstractmethod
    def cells(self, place: int, rows: int, names: Sequence[str] | None = None) -> dict[str, Cells]:
        """Read the chosen columns (all where None) of a chunk.

        Raises:
            ValueError: the file is not what the survey found, or corrupt.
        """


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
