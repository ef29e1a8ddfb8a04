"""Open a folder of shards, one of them, or an index as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterpoint.data.ambiguity import Nan
from counterpoint.data.dataset import Dataset
from counterpoint.data.source import Request, Source
from counterpoint.data.streams.files import is_stream
from counterpoint.data.streams.index import INDEX, Index, Wanted
from counterpoint.data.streams.survey import survey
from counterpoint.data.text import Tokens


@dataclass(frozen=True)
class StreamOptions:
    """Options of shards. Where there is an index, it has settled all but ``buffer``.

    Args:
        columns: names of the columns to read; all by default.
        size: side of images, cut to the square in their middle; by default all images
            must have one size.
        length: tokens of a text (32 by default); longer ones are cut, shorter ones
            padded.
        min_count: how often the training texts must hold a word for it to have an id,
            or a pair of pieces to be joined (3 by default).
        tokens: "words" (the default), "pieces" of words, or "characters".
        vocabulary_size: most tokens.
        vocabulary: file of a vocabulary that is taken instead of a learned one; a word
            outside it is bad.
        nan: "missing" takes NaN in part of a vector for entries that are missing;
            "error" (the default) for a mistake.
        skip_bad: read every row, leave out what is bad, list it in the notes and warn.
        buffer: megabytes of rows that are shuffled together; two such blocks are in
            memory.
    """

    columns: Sequence[str] | None = None
    size: int | None = None
    length: int | None = None
    min_count: int | None = None
    tokens: Tokens | None = None
    vocabulary_size: int | None = None
    vocabulary: str | Path | None = None
    nan: Nan | None = None
    skip_bad: bool | None = None
    buffer: int = 128

    def asked(self) -> dict[str, Any]:
        """Return what is asked of the index, without what is left to it."""
        asked = {key: value for key, value in vars(self).items() if value is not None}
        del asked["buffer"]
        if "columns" in asked:
            asked["columns"] = tuple(asked["columns"])
        if "vocabulary" in asked:
            asked["vocabulary"] = str(asked["vocabulary"])
        return asked


def open_stream(request: Request, options: StreamOptions) -> Dataset:
    """Open shards: train is a :class:`~counterpoint.data.Stream`, val and test are in
    memory."""
    index = find_index(request.path, options.asked())
    return index.dataset(request.fractions, request.seed, options.buffer)


def find_index(path: Path, asked: dict[str, Any]) -> Index:
    """Return the index that is there, or a new one.

    Args:
        asked: fields of :class:`~counterpoint.data.streams.index.Wanted` that somebody
            asked for.

    Raises:
        ValueError: an index that was made with other options; and what
            :func:`~counterpoint.data.streams.survey.survey` raises.
    """
    wanted = Wanted(**asked)
    saved = path / INDEX if path.is_dir() else path
    if saved.suffix != ".json" or not saved.is_file():
        return survey(path, wanted)
    index = Index.load(saved)
    for option, now in asked.items():
        was = getattr(index.wanted, option)
        if was != now:
            raise ValueError(
                f"{saved} was made with {option} {was}, and {option} {now} is asked for; leave it out, or make the index again"
            )
    return index


SOURCE = Source(
    "shards",
    "a folder of .parquet or .tar shards, one of them, or an index",
    StreamOptions,
    open_stream,
    frozenset({"fractions"}),
    recognises=is_stream,
    infers=True,
)
