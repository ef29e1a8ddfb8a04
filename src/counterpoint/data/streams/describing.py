"""Look at the values of shards: which columns are modalities, and how they look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.sources.inference import infer
from counterpoint.data.split import Array
from counterpoint.data.streams.chunks import BadRow
from counterpoint.data.streams.columns import BadCell, Column, arrays, image_shape, kind_of
from counterpoint.data.streams.index import Index
from counterpoint.data.streams.parquet import Parquet
from counterpoint.data.streams.shard import Cells, Shard
from counterpoint.data.streams.shards import shard_of
from counterpoint.data.text import Vocabulary

T = TypeVar("T")

_FIRST_ROWS = 256  # rows of a chunk that values are inferred from


def with_columns(index: Index, names: Sequence[str]) -> Index:
    """Return the index with its columns and modalities.

    Raises:
        ValueError: a column is nowhere, or holds what is not read; or there is no
            modality among them.
    """
    samples = _samples(index, names)
    columns: list[Column] = []
    modalities: list[Modality] = []
    for name, cells in samples.items():
        if not len(cells):
            raise ValueError(
                f"column {name!r} has no value in {index.folder}; leave it out by naming the columns that are wanted"
            )
        try:
            column, modality = _column(index, name, cells)
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {name!r} of {index.folder}: {error}") from None
        columns.append(column)
        modalities += [] if modality is None else [modality]
    if not modalities:
        raise ValueError(
            f"{index.folder} holds labels alone ({', '.join(samples)}), and no modality"
        )
    return replace(
        index,
        columns=tuple(columns),
        modalities=tuple(modalities),
        notes=_classes(index, columns),
    )


def _column(
    index: Index, name: str, cells: Sequence[Any] | Array
) -> tuple[Column, Modality | None]:
    """How a column is read, and what its values look like; None for a label.

    Raises:
        ValueError, TypeError: nothing can be made of it.
    """
    wanted = index.wanted
    kind, cells = _typical(lambda found: kind_of(found[0]), cells)
    if kind == "label":
        return Column(name, kind, "int64"), None
    if "/" in name:
        held = "text" if kind == "text" else f"an {kind}"
        raise BadCell(0, f"a label must hold whole numbers, and it holds {held}")
    if kind == "text":
        words = _vocabulary(index, name)
        strict = wanted.vocabulary is not None
        return Column(name, kind, "int32", strict=strict), words.modality(name, wanted.length)
    if kind == "image":
        shape, _ = _typical(lambda found: image_shape(found[0], wanted.size), cells)
        modality = infer(name, [np.zeros((1, *shape), np.uint8)])
        return Column(name, kind, "uint8", resize=wanted.size is not None), modality
    values, _ = _typical(partial(arrays, name), cells)
    modality = infer(name, [values])
    if modality.likelihood == "categorical":
        modality = replace(modality, classes=max(2, 1 + _largest(index, name)))
    elif wanted.nan == "missing" and len(modality.shape) == 1:
        modality = replace(modality, gaps=True)
    dtype = "uint8" if values.dtype.kind == "b" else str(values.dtype)
    return Column(name, kind, dtype), modality


def _classes(index: Index, columns: Sequence[Column]) -> dict[str, str]:
    """Notes that say what the numbers of labels stand for, where the shards say it."""
    shard = shard_of(index.folder / index.shards[0].file)
    classes = shard.classes() if isinstance(shard, Parquet) else {}
    labels = [column.name for column in columns if column.kind == "label"]
    return {f"label/{n.removeprefix('label/')}": classes[n] for n in labels if n in classes}


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
    samples: dict[str, Sequence[Any] | Array] = {name: [] for name in names}
    for _, cells in _passed(
        index, lambda: [name for name, some in samples.items() if not len(some)]
    ):
        samples.update({name: some.values[:_FIRST_ROWS] for name, some in cells.items()})
    return samples


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
        shard = shard_of(index.folder / entry.file)
        first = 0
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
