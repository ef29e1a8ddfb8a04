"""Chunks: rows of a shard that are read together, and choices among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.data.faults import REMEDY
from counterpoint.data.split import Array
from counterpoint.data.streams.shard import Shard

MOST_CHUNKS = 64
"""Chunks among which such rows are spread."""


class BadRow(ValueError):
    """A row that cannot be used.

    Attributes:
        shard, row: where it stands; rows count from 0. ``row`` is None where it is all
            of the shard, or a chunk of it.
        why: what is wrong with it.
    """

    def __init__(self, shard: Shard, row: int | None, why: str) -> None:
        self.shard = shard
        self.row = row
        self.why = why
        where = shard.path if row is None else f"{shard.path} row {row}"
        super().__init__(f"{where}: {why}; {REMEDY}")


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows that are read together.

    Attributes:
        shard: of the stream.
        place: where in the shard it begins.
        first: number of its first row in the shard.
        size: rows that stand there.
        rows: those that belong to the stream, (n,), counted from ``first``.
    """

    shard: int
    place: int
    first: int
    size: int
    rows: Array


Pick = tuple[Chunk, Array]
"""A chunk, and which of its rows (counted from its first)."""


def spread(chunks: Sequence[Chunk], rows: int, rng: np.random.Generator) -> list[Pick]:
    """Choose random rows (all, if there are no more) of :data:`MOST_CHUNKS` random
    chunks, or of more where these have too few. The picks come in the order of the
    chunks."""
    share = -(-rows // min(len(chunks), MOST_CHUNKS)) if chunks else 0
    chosen: dict[int, Array] = {}
    for i in rng.permutation(len(chunks)).tolist():
        most = min(share, rows - sum(map(len, chosen.values())))
        if most <= 0:
            break
        chosen[i] = np.sort(rng.permutation(chunks[i].rows)[:most])
    total = sum(len(c.rows) for c in chunks)
    missing = min(rows, total) - sum(map(len, chosen.values()))
    for i in (
        [*chosen] if missing else []
    ):  # chunks were too small for their share, and there are no others
        more = rng.permutation(np.setdiff1d(chunks[i].rows, chosen[i]))[:missing]
        chosen[i] = np.sort(np.concatenate([chosen[i], more]))
        missing -= len(more)
    return [(chunks[i], chosen[i]) for i in sorted(chosen)]
