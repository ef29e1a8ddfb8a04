"""The index of a folder of shards: which columns are read, what they look like, and
where the rows stand.

Validation and test rows are held in memory: at most
:data:`~counterpoint.data.streams.stream.MOST_ROWS` rows each, and no more than fit in
the buffer. What no shard is named for is held out from train, by rows that the seed
picks.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from counterpoint.core.documents import read_json
from counterpoint.core.files import write
from counterpoint.core.modality import Modality
from counterpoint.data.ambiguity import Nan
from counterpoint.data.dataset import Dataset
from counterpoint.data.division import DEFAULT_FRACTIONS, Fractions, check_fractions
from counterpoint.data.faults import all_rows
from counterpoint.data.sources.files import inside
from counterpoint.data.split import Split
from counterpoint.data.streams.chunks import Chunk, Pick, spread
from counterpoint.data.streams.columns import Column
from counterpoint.data.streams.shards import shard_of
from counterpoint.data.streams.stream import MOST_ROWS, Reader, Stream
from counterpoint.data.text import Tokens, warn_of_unknown

INDEX = "counterpoint-index.json"
"""Name of the index in a folder of shards."""


@dataclass(frozen=True)
class Wanted:
    """What is to be read of shards, and how.

    Attributes:
        columns: names of columns; None for all.
        size: side of images; None where all have one.
        length: tokens of a text.
        min_count, tokens, vocabulary_size: of a vocabulary that is learned
            (:meth:`Vocabulary.learn`).
        vocabulary: file of one that is given; a word outside it is bad.
        nan: whether NaN in part of a vector is a mistake, or an entry that is missing.
        skip_bad: leave out what is bad.
    """

    columns: tuple[str, ...] | None = None
    size: int | None = None
    length: int = 32
    min_count: int = 3
    tokens: Tokens = "words"
    vocabulary_size: int | None = None
    vocabulary: str | None = None
    nan: Nan = "error"
    skip_bad: bool = False

    def __post_init__(self) -> None:
        for option, value in (("size", self.size), ("length", self.length)):
            if value is not None and value < 1:
                raise ValueError(f"{option} {value} of shards must be 1 or more")


@dataclass(frozen=True)
class Entry:
    """One shard.

    Attributes:
        file: path from the folder.
        part: the split.
        bytes: its size.
        chunks: where each begins, and its number of rows.
        bad: rows that are left out.
    """

    file: str
    part: str
    bytes: int
    chunks: tuple[tuple[int, int], ...]
    bad: tuple[int, ...] = ()


@dataclass(frozen=True)
class Index:
    """What is known of a folder of shards.

    Attributes:
        folder: where they lie.
        wanted: what was asked for.
        columns, modalities: what is read, and what it looks like.
        shards: in order of name.
        notes: names of classes, by label.
        skipped: what was left out, and why.

    >>> from tempfile import TemporaryDirectory
    >>> import pyarrow as pa
    >>> from pyarrow import parquet
    >>> import counterpoint as cp
    >>> with TemporaryDirectory() as folder:
    ...     table = pa.table({"x": [i / 2 for i in range(40)]})
    ...     parquet.write_table(table, f"{folder}/0.parquet")
    ...     Index.load(cp.data.index(folder, progress=False)).stream("train")
    Stream of 40 rows in 1 shards
    x 1 normal
    """

    folder: Path
    wanted: Wanted
    columns: tuple[Column, ...]
    modalities: tuple[Modality, ...]
    shards: tuple[Entry, ...]
    notes: dict[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write the index as JSON, whole or not at all."""
        record = {"format": 1, **asdict(self), "folder": str(self.folder.resolve())}
        if path.parent.resolve() == self.folder.resolve():
            record["folder"] = "."  # so that both may be moved
        write(path, json.dumps(record, ensure_ascii=False).encode())

    @staticmethod
    def load(path: Path) -> Index:
        """Read the index of a file.

        Raises:
            ValueError: it holds none, or a shard is not as it was.
            FileNotFoundError: a shard is gone.
        """
        try:
            record = read_json(path)
            if record.pop("format") != 1:
                raise ValueError("another format")
            wanted = record["wanted"]
            columns = wanted["columns"]
            index = Index(
                folder=path.parent / record["folder"],
                wanted=Wanted(**{**wanted, "columns": None if columns is None else tuple(columns)}),
                columns=tuple(Column(**column) for column in record["columns"]),
                modalities=tuple(
                    Modality(**{**m, "shape": tuple(m["shape"])}) for m in record["modalities"]
                ),
                shards=tuple(
                    Entry(
                        **{
                            **e,
                            "chunks": tuple((a, b) for a, b in e["chunks"]),
                            "bad": tuple(e["bad"]),
                        }
                    )
                    for e in record["shards"]
                ),
                notes=dict(record["notes"]),
                skipped=tuple(record["skipped"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path} is no index of shards ({error}); make it again: counterpoint data index"
            ) from None
        index.check()
        return index

    def check(self) -> None:
        """Compare the shards with the index.

        Raises:
            ValueError: one has another size. FileNotFoundError: one is gone.
        """
        for entry in self.shards:
            file = inside(self.folder, entry.file)
            if not file.is_file():
                raise FileNotFoundError(
                    f"shard {file} is gone since it was indexed; bring it back, or make the index again"
                )
            if (size := file.stat().st_size) != entry.bytes:
                raise ValueError(
                    f"shard {file} has {size} bytes, and had {entry.bytes} when it was indexed; make the index again"
                )

    def about(self, path: Path) -> str:
        """Describe the index: a line for shards, modalities and labels, and all that
        was skipped."""
        rows = {}
        for part in dict.fromkeys(entry.part for entry in self.shards):
            rows[part] = len(self.stream(part))
        counts = ", ".join(f"{count:,} rows of {part}" for part, count in rows.items())
        shown = ", ".join(
            f"{m.name} {'×'.join(map(str, m.shape))} {m.likelihood}" for m in self.modalities
        )
        names = ", ".join(c.name for c in self.columns if c.kind == "label")
        lines = [
            f"{path}: {counts} in {len(self.shards)} shards",
            f"modalities: {shown}",
            *([f"labels: {names}"] if names else []),
        ]
        return "\n".join(
            [*lines, *([f"skipped {len(self.skipped)}:"] if self.skipped else []), *self.skipped]
        )

    def digest(self) -> str:
        """Compute a checksum of what fixes the rows: the modalities, and names and
        sizes of shards and chunks. Contents do not count."""
        record = [
            [m.identity() for m in self.modalities],
            [asdict(c) for c in self.columns],
            [asdict(e) for e in self.shards],
        ]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def stream(self, part: str, buffer: int = 128) -> Stream:
        """Return all rows of a split."""
        entries = [entry for entry in self.shards if entry.part == part]
        shards = tuple(shard_of(self.folder / entry.file) for entry in entries)
        chunks: list[Chunk] = []
        for number, entry in enumerate(entries):
            first = 0
            bad = np.array(entry.bad, np.int64)
            for place, size in entry.chunks:
                rows = np.setdiff1d(np.arange(size), bad - first)
                chunks += [Chunk(number, place, first, size, rows)] if len(rows) else []
                first += size
        return Stream(shards, tuple(chunks), self.columns, self.modalities, self.digest(), buffer)

    def dataset(
        self,
        fractions: Fractions = DEFAULT_FRACTIONS,
        seed: int = 0,
        buffer: int = 128,
    ) -> Dataset:
        """Make a data set: train is a stream, val and test are in memory.

        Raises:
            ValueError: fractions that are none, too few rows, or one that cannot be
                used.
        """
        check_fractions(fractions)
        train = self.stream("train", buffer)
        notes = dict(self.notes)
        rows = len(train)
        most = min(MOST_ROWS, train.block_rows)
        held: dict[str, Split] = {}
        for number, (part, fraction) in enumerate(zip(("val", "test"), fractions[1:], strict=True)):
            named = self.stream(part, buffer)
            rng = np.random.default_rng((seed, number))
            if len(named):
                picks = spread(named.chunks, most, rng)
                if len(named) > most:
                    notes[part] = f"{most:,} of {len(named):,} rows, by the seed"
            else:
                picks = spread(train.chunks, min(most, max(1, round(fraction * rows))), rng)
                train = replace(train, chunks=_without(train.chunks, picks))
                notes[part] = self._held_out(part, picks)
            if not train.chunks:
                raise ValueError(
                    f"{self.folder} has {rows} rows, too few for train, val and test; give at least 3"
                )
            held[part] = Reader(named if len(named) else train).read(picks)
        self._check_words(train, held["val"])
        if self.skipped:
            notes["skipped"] = all_rows(self.skipped)
        digest = hashlib.sha256(f"{self.digest()} {fractions} {seed}".encode()).hexdigest()
        return Dataset(
            self.folder.resolve().name,
            self.modalities,
            replace(train, digest=digest),
            held["val"],
            held["test"],
            notes,
            digest=digest,
        )

    def _held_out(self, part: str, picks: Sequence[Pick]) -> str:
        """A note on rows of train that became a split; also a warning, where other
        splits are named."""
        count = sum(len(taken) for _, taken in picks)
        note = f"{count:,} rows of train, held out by the seed"
        if any(entry.part != "train" for entry in self.shards):
            warnings.warn(f"{self.folder} has no {part} split: {note}", stacklevel=3)
        return note

    def _check_words(self, train: Stream, val: Split) -> None:
        """Warn of words in validation texts that a learned vocabulary lacks."""
        for column in self.columns:
            if column.kind == "text" and not column.strict:
                warn_of_unknown(
                    train.vocabularies[column.name],
                    val.x[column.name][val.present[column.name]],
                    f"the validation texts {column.name!r} of {self.folder}",
                )


def _without(chunks: Sequence[Chunk], picks: Sequence[Pick]) -> tuple[Chunk, ...]:
    """The chunks without rows that were taken from them."""
    taken = {id(chunk): rows for chunk, rows in picks}
    left = (
        replace(c, rows=np.setdiff1d(c.rows, taken[id(c)])) if id(c) in taken else c for c in chunks
    )
    return tuple(chunk for chunk in left if len(chunk.rows))
