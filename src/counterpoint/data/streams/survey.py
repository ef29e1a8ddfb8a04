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

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.ambiguity import Nan
from counterpoint.data.sources.arrays import PART_NAMES, infer
from counterpoint.data.sources.files import progress_bar
from counterpoint.data.split import Array
from counterpoint.data.streams.columns import BadCell, Column, arrays, image_shape, kind_of
from counterpoint.data.streams.index import INDEX, Entry, Index, Wanted, shard_of
from counterpoint.data.streams.shards import (
    KINDS,
    Cells,
    Parquet,
    Shard,
    Survey,
    Tar,
    check_readable,
)
from counterpoint.data.streams.stream import DECODERS, BadRow, Chunk, Reader
from counterpoint.data.text import Tokens, Vocabulary

T = TypeVar("T")
Bad = Callable[[BadRow], None]
"""Hears of what is bad, and raises it unless it may be skipped."""

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_NAMED = re.compile(
    rf"({'|'.join(sorted(PART_NAMES, key=len, reverse=True))})(?![a-z])", re.IGNORECASE
)
_FIRST_ROWS = 256  # rows of a chunk that values are inferred from


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


def is_stream(path: Path) -> bool:
    """Whether a path is an index, a shard, or a folder of either."""
    if path.is_dir():
        return (path / INDEX).is_file() or next(_files(path), None) is not None
    return path.is_file() and (path.suffix in (".json", *KINDS) or path.name.endswith(_COMPRESSED))


def find(path: Path, wanted: Wanted, given: Iterable[str]) -> Index:
    """The index that is there, or a new one.

    Args:
        given: names of the options of ``wanted`` that somebody asked for.

    Raises:
        ValueError: an index that was made with other options; and what :func:`survey`
            raises.
    """
    saved = path / INDEX if path.is_dir() else path
    if saved.suffix != ".json" or not saved.is_file():
        return survey(path, wanted)
    found = Index.load(saved)
    for option in given:
        was, now = getattr(found.wanted, option), getattr(wanted, option)
        if was != now:
            raise ValueError(
                f"{saved} was made with {option} {was}, and {option} {now} is asked for; leave it out, or make the index again"
            )
    return found


def survey(path: Path, wanted: Wanted, *, progress: bool = False) -> Index:
    """A new index.

    Raises:
        FileNotFoundError, ValueError: as :func:`index`.
    """
    folder, files = _shards(path)
    skipped: list[str] = []

    def bad(error: BadRow) -> None:
        if not wanted.skip_bad:
            raise error
        where = error.shard.path.relative_to(folder)
        skipped.append(
            f"{where}: {error.why}"
            if error.row is None
            else f"{where} row {error.row}: {error.why}"
        )

    with progress_bar(progress) as bar:
        task = bar.add_task(f"indexing {folder}", total=len(files))
        seen: dict[str, Survey] = {}
        for file in files:
            if (found := _surveyed(shard_of(folder / file), bad)) is not None:
                seen[file] = found
            bar.advance(task)
        names = _names(folder, seen, wanted, bad)
        entries = tuple(
            Entry(file, part, (folder / file).stat().st_size, seen[file].chunks)
            for file, part in _parts(folder, [*seen]).items()
        )
        made = _described(Index(folder, wanted, (), (), entries), names)
        if wanted.skip_bad:
            bar.reset(task, total=len(entries), description=f"reading {folder}")
            made = _readable(made, bad, lambda: bar.advance(task))
    if skipped:
        warnings.warn(
            f"{folder}: skipped {len(skipped)}, the first {skipped[0]}; the index and the notes list all",
            stacklevel=2,
        )
    return replace(made, skipped=tuple(skipped))


def _files(folder: Path) -> Iterator[Path]:
    """Shards of a folder, compressed ones too."""
    return (
        p
        for p in folder.rglob("*")
        if p.name.endswith((*KINDS, *_COMPRESSED)) and not p.name.startswith(".") and p.is_file()
    )


def _shards(path: Path) -> tuple[Path, list[str]]:
    """The folder, and its shards in order of name.

    Raises:
        FileNotFoundError: there is none.
        ValueError: they are compressed, or of two kinds.
    """
    if not path.exists():
        raise FileNotFoundError(f"no folder of shards {path}")
    files = [path] if path.is_file() else sorted(_files(path))
    folder = path.parent if path.is_file() else path
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no shard; expected files that end in {' or '.join(KINDS)}"
        )
    for file in files:
        if file.name.endswith(_COMPRESSED):
            raise ValueError(
                f"{file} is compressed, so that it is read from its beginning only; decompress it (images in it are compressed already)"
            )
        if file.suffix != files[0].suffix:
            raise ValueError(
                f"{folder} holds both {files[0].name} and {file.name}; put shards of each kind in a folder of their own"
            )
    return folder, [file.relative_to(folder).as_posix() for file in files]


def _parts(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """The split of each shard.

    Raises:
        ValueError: some are named and others are not, or none is of train.
    """
    found = {
        file: next(
            (PART_NAMES[m[1].lower()] for name in Path(file).parts if (m := _NAMED.match(name))),
            None,
        )
        for file in files
    }
    named = {part for part in found.values() if part}
    stray = [file for file, part in found.items() if part is None]
    if named and stray:
        raise ValueError(
            f"{folder / stray[0]} belongs to no split, and other shards do; begin its name, or its folder's, with train, val or test"
        )
    if named and "train" not in named:
        raise ValueError(
            f"{folder} has shards of {' and '.join(sorted(named))} but none of train; name some so, or none at all"
        )
    return {file: part or "train" for file, part in found.items()}


def _surveyed(shard: Shard, bad: Bad) -> Survey | None:
    """What a shard holds; None where that cannot be said."""
    try:
        found = shard.survey()
    except ValueError as error:
        bad(BadRow(shard, None, str(error)))
        return None
    if found.ends_early:
        bad(BadRow(shard, None, found.ends_early))
    return found


def _names(folder: Path, seen: dict[str, Survey], wanted: Wanted, bad: Bad) -> tuple[str, ...]:
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
        members = {name: kind for survey in seen.values() for name, kind in survey.columns.items()}
        fields = (
            _checked(shard, partial(shard.cells, *found.chunks[0]))
            if members.pop("json", None) and wanted.columns is None
            else {}
        )
        names = wanted.columns or tuple(dict.fromkeys([*members, *fields]))
        for name in names:
            if name in members:
                _checked(shard, partial(check_readable, name, members[name]))
        return names
    names = wanted.columns or tuple(found.columns)
    for file, survey in [*seen.items()]:
        theirs = (
            survey.columns
            if wanted.columns is None
            else {name: survey.columns.get(name) for name in names}
        )
        for name in dict.fromkeys([*names, *theirs]):
            if theirs.get(name) != found.columns.get(name) or theirs.get(name) is None:
                here, there = (
                    columns.get(name) or "not there" for columns in (theirs, found.columns)
                )
                what = (
                    f"is {here}, and {there} in {first}"
                    if file != first
                    else f"is not there; the columns are {', '.join(found.columns)}"
                )
                bad(BadRow(shard_of(folder / file), None, f"column {name!r} {what}"))
                del seen[file]
                break
    return names


def _checked(shard: Shard, do: Callable[[], T]) -> T:
    """What ``do`` gives; its errors speak of the shard."""
    try:
        return do()
    except ValueError as error:
        raise ValueError(f"{shard.path}: {error}") from None


def _described(index: Index, names: Sequence[str]) -> Index:
    """The index with its columns and modalities.

    Raises:
        ValueError: a column is nowhere, or holds what is not read; or there is no
            modality among them.
    """
    wanted, samples = index.wanted, _samples(index, names)
    columns: list[Column] = []
    modalities: list[Modality] = []
    for name, cells in samples.items():
        if not len(cells):
            raise ValueError(
                f"column {name!r} has no value in {index.folder}; leave it out by naming the columns that are wanted"
            )
        try:
            kind, cells = _typical(lambda found: kind_of(found[0]), cells)
            if kind == "label":
                columns.append(Column(name, kind, "int64"))
                continue
            if "/" in name:
                raise BadCell(
                    0,
                    f"a label must hold whole numbers, and it holds {'text' if kind == 'text' else f'an {kind}'}",
                )
            if kind == "text":
                modalities.append(_vocabulary(index, name).modality(name, wanted.length))
                columns.append(Column(name, kind, "int32", strict=wanted.vocabulary is not None))
            elif kind == "image":
                shape, _ = _typical(lambda found: image_shape(found[0], wanted.size), cells)
                modalities.append(infer(name, [np.zeros((1, *shape), np.uint8)]))
                columns.append(Column(name, kind, "uint8", resize=wanted.size is not None))
            else:
                values, _ = _typical(partial(arrays, name), cells)
                modality = infer(name, [values])
                if modality.likelihood == "categorical":
                    modality = replace(modality, classes=max(2, 1 + _largest(index, name)))
                elif wanted.nan == "missing" and len(modality.shape) == 1:
                    modality = replace(modality, gaps=True)
                modalities.append(modality)
                columns.append(
                    Column(name, kind, "uint8" if values.dtype.kind == "b" else str(values.dtype))
                )
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {name!r} of {index.folder}: {error}") from None
    if not modalities:
        raise ValueError(
            f"{index.folder} holds labels alone ({', '.join(samples)}), and no modality"
        )
    shard = shard_of(index.folder / index.shards[0].file)
    classes = shard.classes() if isinstance(shard, Parquet) else {}
    notes = {
        f"label/{c.name.removeprefix('label/')}": classes[c.name]
        for c in columns
        if c.kind == "label" and c.name in classes
    }
    return replace(index, columns=tuple(columns), modalities=tuple(modalities), notes=notes)


def _typical(
    read: Callable[[Any], T], cells: Sequence[Any] | Array
) -> tuple[T, Sequence[Any] | Array]:
    """What ``read`` makes of the cells that it can read, and these.

    Raises:
        BadCell: it can read none.
    """
    while True:
        try:
            return read(cells), cells
        except BadCell as error:
            if len(cells) == 1:
                raise
            cells = [cell for i, cell in enumerate(cells) if i != error.index]


def _samples(index: Index, names: Sequence[str]) -> dict[str, Sequence[Any] | Array]:
    """Some values of each column, of the first chunk that has any."""
    found: dict[str, Sequence[Any] | Array] = {name: [] for name in names}
    for _, cells in _passed(index, lambda: [name for name, some in found.items() if not len(some)]):
        found.update({name: some.values[:_FIRST_ROWS] for name, some in cells.items()})
    return found


def _vocabulary(index: Index, name: str) -> Vocabulary:
    """That which is given, or what the training rows teach."""
    wanted = index.wanted
    if wanted.vocabulary is not None:
        return Vocabulary.load(wanted.vocabulary)
    train = replace(index, shards=tuple(entry for entry in index.shards if entry.part == "train"))
    texts = (
        text
        for _, cells in _passed(train, lambda: [name])
        for text in cells[name].values
        if isinstance(text, str)
    )
    return Vocabulary.learn(
        texts, wanted.tokens, min_count=wanted.min_count, size=wanted.vocabulary_size
    )


def _largest(index: Index, name: str) -> int:
    """The largest id of a column."""
    values = (
        cells[name].values
        for _, cells in _passed(index, lambda: [name])
        if cells[name].present.any()
    )
    return max(int(_typical(partial(arrays, name), some)[0].max()) for some in values)


def _passed(
    index: Index, names: Callable[[], Sequence[str]]
) -> Iterator[tuple[Shard, dict[str, Cells]]]:
    """The cells of each chunk in turn, of the columns that ``names`` then asks for;
    until it asks for none.

    Raises:
        BadRow: a chunk cannot be read, and bad ones may not be skipped.
    """
    for entry in index.shards:
        shard, first = shard_of(index.folder / entry.file), 0
        for place, size in entry.chunks:
            asked = names()
            if not asked:
                return
            try:
                yield shard, shard.cells(place, size, asked)
            except ValueError as error:
                if not index.wanted.skip_bad:
                    raise BadRow(
                        shard, None, f"rows {first} to {first + size - 1}: {error}"
                    ) from None
            first += size


def _readable(index: Index, bad: Bad, told: Callable[[], None]) -> Index:
    """The index without the rows that cannot be used, each of which is read."""
    entries = []
    with ThreadPoolExecutor(DECODERS) as pool:
        for entry in index.shards:
            stream = replace(index, shards=(replace(entry, part="train"),)).stream("train")
            reader = Reader(stream, pool.map)
            left_out = [row for chunk in stream.chunks for row in _unusable(reader, chunk, bad)]
            entries.append(replace(entry, bad=tuple(left_out)))
            told()
    return replace(index, shards=tuple(entries))


def _unusable(reader: Reader, chunk: Chunk, bad: Bad) -> Iterator[int]:
    """Numbers in the shard of the rows of a chunk that cannot be used."""
    for start in range(0, chunk.size, reader.stream.block_rows):
        rows = chunk.rows[start : start + reader.stream.block_rows]
        try:
            reader.read([(chunk, rows)])
            continue
        except BadRow as error:
            if error.row is None:
                bad(error)
                yield from range(chunk.first, chunk.first + chunk.size)
                return
        for row in rows:
            try:
                reader.read([(chunk, np.array([row]))])
            except BadRow as error:
                bad(error)
                yield chunk.first + int(row)
