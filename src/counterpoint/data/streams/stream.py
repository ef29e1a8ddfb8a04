"""Streams: rows in shards on disk, more than memory holds, that are trained from block
by block.

An epoch's order is fixed by (seed, epoch). The chunks of all shards are permuted; in
this order, each of W processes takes a contiguous share of ⌊N / W⌋ rows, so that a
process reads no shard that it does not need, but for a chunk on the border of two
shares. A share is cut into blocks of as many rows as fit in ``buffer`` megabytes, in
whole batches, and the rows of a block are permuted. So a batch mixes the chunks of its
block; two rows that stand together in a chunk meet again and again, and shards that are
sorted by class should be shuffled once when they are written.

While a block is trained on, a thread reads the next and others decode its images, so
that two blocks are in memory. An integer says where a pass stands.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from counterpoint.core.batch import Batch
from counterpoint.core.conversion import conversions
from counterpoint.core.display import html_lines
from counterpoint.core.modality import Modality
from counterpoint.data.display import described
from counterpoint.data.loader import Loader, Shuffle
from counterpoint.data.sources.inference import all_nan
from counterpoint.data.split import Array, Split
from counterpoint.data.streams.chunks import BadRow, Chunk, Pick, spread
from counterpoint.data.streams.columns import (
    BadCell,
    Column,
    Map,
    arrays,
    ids,
    images,
    labels,
    row_bytes,
)
from counterpoint.data.streams.shard import Cells, Shard
from counterpoint.data.text import Vocabulary

MOST_ROWS = 10_000
"""Most rows of a stream that are held in memory at once where something looks at rows
beside training: as many as probes take."""

DECODERS = min(4, os.cpu_count() or 1)
"""Threads that decode the images of a block."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Hold the rows of a split that does not fit in memory.

    :func:`counterpoint.data.load` makes one of a folder of shards, and ``fit`` trains
    from it as from a :class:`Split`.

    Attributes:
        shards, chunks: the files, and where the rows stand in them.
        columns: what is read of each row.
        modalities: what the values look like; fixes the order.
        digest: of what fixes which rows these are.
        buffer: megabytes of rows that are shuffled together; two such blocks are in
            memory.
    """

    shards: tuple[Shard, ...]
    chunks: tuple[Chunk, ...]
    columns: tuple[Column, ...]
    modalities: tuple[Modality, ...]
    digest: str = ""
    buffer: int = 128
    covariate_names: ClassVar[tuple[str, ...]] = ()  # shards hold none

    def __post_init__(self) -> None:
        if self.buffer < 1:
            raise ValueError(f"buffer {self.buffer} must be 1 megabyte or more")

    def __len__(self) -> int:
        return int(self.counts.sum())

    def __repr__(self) -> str:
        return "\n".join([self._title(), *map(described, self.modalities)])

    def _repr_html_(self) -> str:
        return html_lines(self._title(), [*map(described, self.modalities)])

    def _title(self) -> str:
        return f"Stream of {len(self):,} rows in {len(self.shards)} shards"

    @cached_property
    def counts(self) -> Array:
        """Rows of each chunk."""
        return np.array([len(chunk.rows) for chunk in self.chunks], np.int64)

    @property
    def block_rows(self) -> int:
        """Rows that fit in the buffer."""
        return max(1, self.buffer * 10**6 // row_bytes(self.columns, self.modalities))

    def sample(self, rows: int = MOST_ROWS, seed: int = 0) -> Split:
        """Read some rows into memory: all if they are no more than ``rows`` and fit in
        the buffer, else random rows of random chunks."""
        return Reader(self).read(
            spread(self.chunks, min(rows, self.block_rows), np.random.default_rng((seed, 1)))
        )

    def in_memory(self) -> Split:
        """Return a sample of the rows."""
        return self.sample()

    def whole(self) -> Split:
        """Refuse to read all rows into memory.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"the {len(self):,} training rows are a stream, and all are wanted in memory; give a data set of arrays"
        )

    def with_modalities(self, modalities: Sequence[Modality]) -> Stream:
        """Return the same stored values, declared as other modalities."""
        return replace(self, modalities=tuple(modalities))

    def having(self, names: Sequence[str]) -> Stream:
        """Return the stream itself: which rows have a modality is not known."""
        return self

    def loader(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: Shuffle = True,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str | None = None,
    ) -> StreamLoader:
        """Return the batches of one process in training
        (:meth:`counterpoint.data.rows.Rows.loader`)."""
        full, rest = divmod(len(self) // world_size, batch_size)
        return StreamLoader(
            self,
            batch_size,
            seed=seed,
            shuffle=shuffle,
            drop_last=full > 0 and rest == 1,
            rank=rank,
            world_size=world_size,
            device=device,
        )

    def read_as(self, modalities: Sequence[Modality]) -> Stream:
        """Return the stream as a model of these modalities reads it, where values need
        no conversion.

        Raises:
            ValueError: they do.
        """
        asked = tuple(modalities)
        if self.modalities == asked:
            return self
        changed = [c.asked.name for c in conversions(asked, self.modalities) if c.needed]
        if changed:
            raise ValueError(
                f"modality {changed[0]!r} of a stream has other features, units or words than the model reads, and a stream is not converted;"
                " write shards that agree with it"
            )
        return replace(self, modalities=asked)

    @cached_property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """The vocabulary of each modality of text."""
        text = {column.name for column in self.columns if column.kind == "text"}
        return {m.name: Vocabulary(m.words) for m in self.modalities if m.name in text}


class Reader:
    """Read rows of a stream.

    The cells of the last chunk are kept, because the next rows are often of the same.

    Args:
        map: decodes images; a pool's, to decode side by side.
    """

    def __init__(self, stream: Stream, map: Map = map) -> None:
        self.stream = stream
        self.map = map
        self.last: tuple[Chunk, dict[str, Cells]] | None = None

    def read(self, picks: Sequence[Pick]) -> Split:
        """Read the chosen rows.

        Raises:
            BadRow: one cannot be used.
        """
        stream = self.stream
        total = sum(len(rows) for _, rows in picks)
        shapes = {m.name: m.shape for m in stream.modalities}
        values = {
            c.name: np.zeros((total, *shapes.get(c.name, ())), c.dtype) for c in stream.columns
        }
        present = {c.name: np.zeros(total, bool) for c in stream.columns}
        start = 0
        for chunk, rows in picks:
            part = slice(start, start + len(rows))
            for column in stream.columns:
                cells = self._cells(chunk)[column.name].take(rows)
                here = np.flatnonzero(cells.present)
                try:
                    made = self._decoded(column, cells.values)
                except BadCell as error:
                    row = chunk.first + int(rows[here[error.index]])
                    raise BadRow(
                        stream.shards[chunk.shard], row, f"column {column.name!r}: {error}"
                    ) from None
                if column.kind == "array" and made.dtype.kind == "f" and all_nan(made).any():
                    here = here[~all_nan(made)]
                    made = made[~all_nan(made)]
                values[column.name][start + here] = made
                present[column.name][start + here] = True
            start = part.stop
        try:
            return self._split(values, present)
        except ValueError as error:
            raise self._bad_row(picks, values, present, error) from None

    def _cells(self, chunk: Chunk) -> dict[str, Cells]:
        if self.last is None or self.last[0] is not chunk:
            shard = self.stream.shards[chunk.shard]
            self.last = None  # before the next is read, so that one is in memory
            try:
                self.last = (
                    chunk,
                    shard.cells(
                        chunk.place, chunk.size, [column.name for column in self.stream.columns]
                    ),
                )
            except ValueError as error:
                raise BadRow(
                    shard, None, f"rows {chunk.first} to {chunk.first + chunk.size - 1}: {error}"
                ) from None
        return self.last[1]

    def _decoded(self, column: Column, cells: Sequence[Any] | Array) -> Array:
        """Values of the cells of a column."""
        if column.kind == "label":
            return labels(cells)
        modality = next(m for m in self.stream.modalities if m.name == column.name)
        if column.kind == "image":
            return images(cells, modality.shape, column.resize, self.map)
        if column.kind == "text":
            return ids(
                cells, self.stream.vocabularies[column.name], modality.shape[0], column.strict
            )
        return arrays(column.name, cells, modality, column.dtype)

    def _split(self, values: dict[str, Array], present: dict[str, Array]) -> Split:
        names = {m.name for m in self.stream.modalities}
        shared: dict[str, Array] = {}
        private: dict[str, dict[str, Array]] = {}
        for name in (name for name in values if name not in names):
            label, _, of = name.removeprefix("label/").partition("/")
            known = np.where(present[name], values[name], -1)
            if of:
                private.setdefault(label, {})[of] = known
            else:
                shared[label] = known
        return Split(
            {k: v for k, v in values.items() if k in names},
            self.stream.modalities,
            {k: v for k, v in present.items() if k in names},
            shared,
            private,
        )

    def _bad_row(
        self,
        picks: Sequence[Pick],
        values: dict[str, Array],
        present: dict[str, Array],
        error: ValueError,
    ) -> BadRow:
        """Which of the rows a split refuses; asked of each alone, and only when there
        is one."""
        places = [(chunk, int(row)) for chunk, rows in picks for row in rows]
        for i, (chunk, row) in enumerate(places):
            try:
                self._split(
                    {k: v[i : i + 1] for k, v in values.items()},
                    {k: v[i : i + 1] for k, v in present.items()},
                )
            except ValueError as why:  # which calls the only row its row 0
                return BadRow(
                    self.stream.shards[chunk.shard],
                    chunk.first + row,
                    str(why).replace("row 0 ", "", 1),
                )
        raise error


class StreamLoader(Loader[Stream]):
    """Load batches of a stream, in the order that
    :mod:`counterpoint.data.streams.stream` explains. See
    :class:`~counterpoint.data.loader.Loader` for the arguments. A pass may raise
    :class:`BadRow`.

    Each process sees ⌊N / W⌋ rows in as many batches as the others; up to W − 1 rows
    are left out of a pass, other ones in each. The last batch may be short, and is left
    out with ``drop_last``.
    """

    @property
    def share(self) -> int:
        """Rows of each process in a pass."""
        return len(self.rows) // self.world_size

    @property
    def block(self) -> int:
        """Rows that are read at once, a whole number of batches."""
        return self.batch_size * max(1, self.rows.block_rows // self.batch_size)

    def __len__(self) -> int:
        full, rest = divmod(self.share, self.batch_size)
        return full + (not self.drop_last and rest > 0)

    def _batches(self, epoch: int, position: int) -> Iterator[Batch]:
        per_block = self.block // self.batch_size
        first, skip = divmod(position, per_block)
        with _threads(DECODERS) as decoders, _threads(1) as ahead:
            blocks = self._blocks(epoch, first, Reader(self.rows, decoders.map))
            coming = ahead.submit(next, blocks, None)
            while (block := coming.result()) is not None:
                coming = ahead.submit(next, blocks, None)
                split, order = block
                for i in range(skip * self.batch_size, len(order), self.batch_size):
                    yield split.batch(order[i : i + self.batch_size], self.device)
                skip = 0
                del block, split  # before the next but one is read

    def _blocks(self, epoch: int, first: int, reader: Reader) -> Iterator[tuple[Split, Array]]:
        """The rows of each block of this process's share, and the order in which they
        come."""
        counts = self.rows.counts
        begins = self.rank * self.share
        rows = min(self.share, len(self) * self.batch_size)
        order = (
            np.random.default_rng((self.seed, epoch)).permutation(len(counts))
            if self.shuffle
            else np.arange(len(counts))
        )
        ends = np.cumsum(counts[order])
        for b in range(first, -(-rows // self.block)):
            low = begins + b * self.block
            high = begins + min((b + 1) * self.block, rows)
            chunks = range(
                int(np.searchsorted(ends, low, "right")),
                int(np.searchsorted(ends, high, "left")) + 1,
            )
            picks = []
            for i in chunks:
                chunk = self.rows.chunks[order[i]]
                before = int(ends[i] - counts[order[i]])
                picks.append((chunk, chunk.rows[max(0, low - before) : high - before]))
            rng = np.random.default_rng((self.seed, epoch, self.rank, b))
            yield (
                reader.read(picks),
                rng.permutation(high - low) if self.shuffle else np.arange(high - low),
            )

    def _identity(self) -> dict[str, Any]:
        return {
            "rows": len(self.rows),
            "stream": self.rows.digest,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "batch_size": self.batch_size,
            "world_size": self.world_size,
            "block_rows": self.block,
        }


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that are gone when the block ends, however it does."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="counterpoint-stream")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
