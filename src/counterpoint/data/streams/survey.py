"""A look at all shards of a folder, which makes their index.

Shards lie in the folder or below it: ``.parquet`` or ``.tar``. Those in a folder
``train``, ``val`` (``valid``, ``validation``, ``dev``) or ``test``, or with a name that
begins so (``train-00000-of-00010.parquet``), are that split; where none is named, all
are train.

Headers say where rows stand. Shapes, dtypes and sizes are those of the first values,
and a row that differs is bad. Where there is text and no vocabulary is given, the text
of training rows is read; where there are ids, these are. With ``skip_bad`` every row is
read and decoded, so that training knows beforehand which rows there are, and processes
have equally many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from counterpoint.data.ambiguity import Nan
from counterpoint.data.faults import Faults
from counterpoint.data.sources.files import progress_bar
from counterpoint.data.streams.chunks import BadRow, Chunk
from counterpoint.data.streams.describing import with_columns
from counterpoint.data.streams.files import parts_of, shards_of
from counterpoint.data.streams.index import INDEX, Entry, Index, Wanted
from counterpoint.data.streams.shard import Shard, Survey
from counterpoint.data.streams.shards import shard_of
from counterpoint.data.streams.stream import DECODERS, Reader
from counterpoint.data.streams.tar import Tar, check_readable
from counterpoint.data.text import Tokens

T = TypeVar("T")


def index(
    source: str | Path,
    *,
    out: str | Path | None = None,
    columns: list[str] | None = None,
    size: int | None = None,
    length: int = 32,
    min_count: int = 3,
    tokens: Tokens = "words",
    vocabulary_size: int | None = None,
    vocabulary: str | Path | None = None,
    nan: Nan = "error",
    skip_bad: bool = False,
    progress: bool = True,
) -> Path:
    """Index a folder of parquet or tar shards, once; load then opens it at once.

    >>> from tempfile import TemporaryDirectory
    >>> import pyarrow as pa
    >>> from pyarrow import parquet
    >>> import counterpoint as cp
    >>> with TemporaryDirectory() as folder:
    ...     table = pa.table({"x": [i / 2 for i in range(40)]})
    ...     parquet.write_table(table, f"{folder}/0.parquet")
    ...     cp.data.index(folder, progress=False).name, len(cp.data.load(folder).train)
    ('counterpoint-index.json', 32)

    Args:
        source: the folder, or one shard.
        out: the file to write; by default counterpoint-index.json in the folder, where
            load looks for it. Any other is given to load itself.
        columns: names of the columns to read; all by default.
        size: side of images, cut to the square in their middle; by default all images
            must have one size.
        length: tokens of a text; longer ones are cut, shorter ones padded.
        min_count: how often the training texts must hold a word for it to have an id,
            or a pair of pieces to be joined.
        tokens: words, pieces of words, or characters.
        vocabulary_size: most tokens.
        vocabulary: file of a vocabulary that is taken instead of a learned one; a word
            outside it is bad.
        nan: "missing" takes NaN in part of a vector for entries that are missing, and
            not for a mistake.
        skip_bad: read every row, leave out what is bad, and list it in the index.
        progress: show a progress bar.

    Returns:
        The file.

    Raises:
        FileNotFoundError: no such folder, or no shard in it.
        ValueError: shards or rows that cannot be read, shards that differ, or columns
            of which nothing can be made.
        OSError: the index cannot be written.
    """
    path = Path(source)
    wanted = Wanted(
        None if columns is None else tuple(columns),
        size,
        length,
        min_count,
        tokens,
        vocabulary_size,
        None if vocabulary is None else str(vocabulary),
        nan,
        skip_bad,
    )
    made = survey(path, wanted, progress=progress)
    target = Path(out) if out is not None else made.folder / INDEX
    made.save(target)
    return target


def survey(path: Path, wanted: Wanted, *, progress: bool = False) -> Index:
    """Make a new index.

    Raises:
        FileNotFoundError, ValueError: as :func:`index`.
    """
    folder, files = shards_of(path)
    faults = Faults(str(folder), wanted.skip_bad)
    with progress_bar(progress) as bar:
        task = bar.add_task(f"indexing {folder}", total=len(files))
        seen: dict[str, Survey] = {}
        for file in files:
            if (found := _surveyed(shard_of(folder / file), folder, faults)) is not None:
                seen[file] = found
            bar.advance(task)
        names = _names(folder, seen, wanted, faults)
        entries = tuple(
            Entry(file, part, (folder / file).stat().st_size, seen[file].chunks)
            for file, part in parts_of(folder, [*seen]).items()
        )
        made = with_columns(Index(folder, wanted, (), (), entries), names)
        if wanted.skip_bad:
            bar.reset(task, total=len(entries), description=f"reading {folder}")
            made = _readable(made, faults, lambda: bar.advance(task))
    faults.settle("the index and the notes list")
    return replace(made, skipped=tuple(faults.rows))


def _refuse(faults: Faults, error: BadRow, folder: Path) -> None:
    """Add a bad row, or all of a shard or a chunk, to the ledger."""
    where = str(error.shard.path.relative_to(folder))
    if error.row is not None:
        where += f" row {error.row}"
    faults.row(f"{where}: {error.why}", error)


def _surveyed(shard: Shard, folder: Path, faults: Faults) -> Survey | None:
    """What a shard holds; None where that cannot be said."""
    try:
        found = shard.survey()
    except ValueError as error:
        _refuse(faults, BadRow(shard, None, str(error)), folder)
        return None
    if found.ends_early:
        _refuse(faults, BadRow(shard, None, found.ends_early), folder)
    return found


def _names(
    folder: Path, seen: dict[str, Survey], wanted: Wanted, faults: Faults
) -> tuple[str, ...]:
    """The columns to read. Shards that store one otherwise than the first are dropped
    from ``seen``.

    Raises:
        ValueError: no shard is left, or a column cannot be read.
    """
    if not seen:
        raise ValueError(f"no shard of {folder} can be read; write them again")
    first, found = next(iter(seen.items()))
    shard = shard_of(folder / first)
    if isinstance(shard, Tar):
        return _members(shard, seen, wanted)
    names = wanted.columns or tuple(found.columns)
    for file, survey in [*seen.items()]:
        if why := _difference(survey.columns, found.columns, names, wanted, first, file):
            _refuse(faults, BadRow(shard_of(folder / file), None, why), folder)
            del seen[file]
    return names


def _members(shard: Tar, seen: dict[str, Survey], wanted: Wanted) -> tuple[str, ...]:
    """The columns of tar archives, in which a row may lack any.

    Args:
        shard: the first archive, whose first chunk shows the fields of JSON members.
    """
    members = {}
    for survey in seen.values():
        for name, kind in survey.columns.items():
            members[name] = kind
    has_fields = members.pop("json", None) and wanted.columns is None
    place, rows = next(iter(seen.values())).chunks[0]
    fields = _checked(shard, partial(shard.cells, place, rows)) if has_fields else {}
    names = wanted.columns or tuple(dict.fromkeys([*members, *fields]))
    for name in names:
        if name in members:
            _checked(shard, partial(check_readable, name, members[name]))
    return names


def _difference(
    columns: dict[str, str],
    expected: dict[str, str],
    names: tuple[str, ...],
    wanted: Wanted,
    first: str,
    file: str,
) -> str | None:
    """How the columns of a shard differ from those of the first; None if they do not.

    Args:
        first, file: the names of the two shards.
    """
    theirs = columns if wanted.columns is None else {name: columns.get(name, "") for name in names}
    for name in dict.fromkeys([*names, *theirs]):
        if theirs.get(name) and theirs[name] == expected.get(name):
            continue
        if file == first:
            return f"column {name!r} is not there; the columns are {', '.join(expected)}"
        one, other = (by.get(name) or "not there" for by in (theirs, expected))
        return f"column {name!r} is {one}, and {other} in {first}"
    return None


def _checked(shard: Shard, do: Callable[[], T]) -> T:
    """What ``do`` gives; its errors speak of the shard."""
    try:
        return do()
    except ValueError as error:
        raise ValueError(f"{shard.path}: {error}") from None


def _readable(index: Index, faults: Faults, told: Callable[[], None]) -> Index:
    """The index without the rows that cannot be used, each of which is read."""
    entries = []
    with ThreadPoolExecutor(DECODERS) as pool:
        for entry in index.shards:
            stream = replace(index, shards=(replace(entry, part="train"),)).stream("train")
            reader = Reader(stream, pool.map)
            left_out: list[int] = []
            for chunk in stream.chunks:
                left_out += _unusable(reader, chunk, index.folder, faults)
            entries.append(replace(entry, bad=tuple(left_out)))
            told()
    return replace(index, shards=tuple(entries))


def _unusable(reader: Reader, chunk: Chunk, folder: Path, faults: Faults) -> Iterator[int]:
    """Numbers in the shard of the rows of a chunk that cannot be used."""
    for start in range(0, chunk.size, reader.stream.block_rows):
        rows = chunk.rows[start : start + reader.stream.block_rows]
        try:
            reader.read([(chunk, rows)])
            continue
        except BadRow as error:
            if error.row is None:
                _refuse(faults, error, folder)
                yield from range(chunk.first, chunk.first + chunk.size)
                return
        for row in rows:
            try:
                reader.read([(chunk, np.array([row]))])
            except BadRow as error:
                _refuse(faults, error, folder)
                yield chunk.first + int(row)
