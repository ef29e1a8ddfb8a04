"""A folder of images and a table of what is said of them, as Hugging Face's ImageFolder
has it (https://huggingface.co/docs/datasets/image_dataset): ``captions.csv``,
``captions.jsonl``, ``metadata.csv`` or ``metadata.jsonl``.

Columns of the table, of which only ``file_name`` or captions must be there:

- ``file_name``: path of the image from the folder;
- ``caption``, ``captions`` or ``text``: a caption; in JSON also a list of them. Rows of
  the same image are captions of one image;
- ``split``: train, val (valid, validation, dev) or test. Without it images are divided
  at random, with all that is said of them; a val or test that no row names is held out
  from train, alike in every class;
- ``label``: class of the row, a number or text;
- ``id``: must differ from row to row.

What is not there is *absent*: null in JSON, an empty field in CSV, a ``file_name`` that
no file has; and an image that the table does not name has no caption (where the table
names splits, it trains). What is there and can't be used is *bad*, and an error that
names file and row: an image that can't be read, a caption without a word, a word
outside a vocabulary that is given, an id that was there, rows that disagree about one
image, a path that leaves the folder, a row with neither image nor caption, a line that
is no row.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from counterpoint.data.division import PART_NAMES
from counterpoint.data.faults import Faults
from counterpoint.data.sources.files import inside
from counterpoint.data.text import Vocabulary, words_of

TABLES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Names of files that are taken for images where the table does not name them end so,
in small letters or large."""

_SAID = ("caption", "captions", "text")


@dataclass(frozen=True)
class Photo:
    path: Path
    where: str  # the row that names it


@dataclass(frozen=True)
class Entry:
    """What the table says of one image, or in a row without one."""

    where: str
    photo: Photo | None
    captions: tuple[str, ...]
    label: int | str | None
    part: str | None
    lost: bool = False  # the table names an image that is not there


def read_entries(folder: Path, vocabulary: Vocabulary | None, faults: Faults) -> list[Entry]:
    """Return what the table says, and the images that it does not name.

    Args:
        vocabulary: that of the captions, where one is given.
        faults: hears of bad rows.
    """
    entries: dict[str, Entry] = {}
    ids: set[Any] = set()
    named: set[str] = set()
    for where, row in _rows(folder, faults):
        with faults.at(where):
            name = _typed(row, "file_name")
            key = PurePosixPath(name).as_posix() if name else where
            named.add(key)
            if name:
                inside(folder, name)
            entry = _entry(folder, where, row, vocabulary)
            number = _typed(row, "id")
            if number is not None and number in ids:
                raise ValueError(f"id {number!r} is there already")
            entries[key] = _joined(entries[key], entry) if key in entries else entry
            ids.add(number)
    divides = any(entry.part for entry in entries.values())
    for key in [key for key, entry in entries.items() if divides and not entry.part]:
        with faults.at(entries.pop(key).where):
            raise ValueError("split is null, and other rows have one")
    for path in _image_files(folder):
        if (name := path.relative_to(folder).as_posix()) not in named:
            with faults.at(str(path)):
                photo = Photo(inside(folder, name), "which the table does not name")
                entries[name] = Entry(str(path), photo, (), None, "train" if divides else None)
    return [*entries.values()]


def _image_files(folder: Path) -> list[Path]:
    """The files of a folder that are named as images are, in order of name."""
    images = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    return sorted(path for path in images if path.is_file())


def _typed(row: Mapping[str, Any], column: str) -> Any:
    """Text or a whole number of a row, None where it is null or empty.

    Raises:
        ValueError: it is neither.
    """
    value = row.get(column)
    if value is not None and (
        isinstance(value, bool)
        or not isinstance(value, str if column in ("file_name", "split") else str | int)
    ):
        raise ValueError(
            f"{column} is {value!r}, expected text{'' if column in ('file_name', 'split') else ' or a whole number'}"
        )
    return None if value == "" else value


def _entry(
    folder: Path, where: str, row: Mapping[str, Any], vocabulary: Vocabulary | None
) -> Entry:
    """One row.

    Raises:
        ValueError: it is bad.
    """
    name, label, part = (_typed(row, column) for column in ("file_name", "label", "split"))
    said = next((row[key] for key in _SAID if key in row), None)
    texts = [said] if isinstance(said, str) else [] if said is None else said
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"caption is {said!r}, expected text, a list of texts, or null")
    if part is not None and part not in PART_NAMES:
        raise ValueError(f"split is {part!r}, expected one of {', '.join(PART_NAMES)}")
    for text in texts:
        if not words_of(text):
            raise ValueError(f"caption {text!r} holds no word; null says that there is none")
        if vocabulary is not None and vocabulary.unknown(text):
            raise ValueError(
                f"{vocabulary.unknown(text)[0]!r} in caption {text!r} is none of the {len(vocabulary)} tokens of the vocabulary"
            )
    path = None if name is None else folder / name
    photo = Photo(path, where) if path is not None and path.is_file() else None
    if photo is None and not texts:
        raise ValueError(
            "neither an image nor a caption" if path is None else f"no file {path}, and no caption"
        )
    return Entry(
        where,
        photo,
        tuple(texts),
        label,
        None if part is None else PART_NAMES[part],
        name is not None and photo is None,
    )


def _joined(first: Entry, more: Entry) -> Entry:
    """Two rows of one image.

    Raises:
        ValueError: they disagree.
    """
    for what, one, other in (("label", first.label, more.label), ("split", first.part, more.part)):
        if one != other:
            raise ValueError(f"{what} of the image is {other!r} here and {one!r} in {first.where}")
    return replace(first, captions=(*first.captions, *more.captions))


def _rows(folder: Path, faults: Faults) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where each row of the table stands, and its columns."""
    tables = [folder / name for name in TABLES if (folder / name).is_file()]
    if len(tables) > 1:
        raise ValueError(
            f"{folder} holds {' and '.join(path.name for path in tables)}; leave one of them"
        )
    (table,) = tables
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 ({error}); save it as that") from None
    known = False
    for number, row in (
        _csv(table, text, faults) if table.suffix == ".csv" else _jsonl(table, text, faults)
    ):
        several = [key for key in _SAID if key in row]
        if len(several) > 1:
            raise ValueError(
                f"{table} line {number}: both {several[0]} and {several[1]} hold captions; leave one of them"
            )
        known |= bool(several) or "file_name" in row
        yield f"{table} line {number}", row
    if not known:
        raise ValueError(
            f"{table} has neither file_name nor {', '.join(_SAID)} in any row; it needs one of these columns"
        )


def _csv(table: Path, text: str, faults: Faults) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Lines and rows of CSV with a header; what is empty is null."""
    lines = csv.reader(StringIO(text, newline=""), strict=True)
    header = next(lines, [])
    if len({*header}) < len(header):
        raise ValueError(f"{table} names a column twice in {', '.join(header)}; leave one of them")
    while True:
        number = lines.line_num + 1
        fields = []
        with faults.at(f"{table} line {number}"):
            try:
                fields = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(f"it is no CSV ({error})") from None
            if fields and len(fields) != len(header):
                raise ValueError(
                    f"it has {len(fields)} fields, expected {len(header)} as the header has"
                )
        if fields and len(fields) == len(header):
            yield number, {key: value or None for key, value in zip(header, fields, strict=True)}


def _jsonl(table: Path, text: str, faults: Faults) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Lines and rows of text that holds a JSON object a line."""
    for number, line in enumerate(text.split("\n"), 1):
        row = None
        with faults.at(f"{table} line {number}"):
            try:
                row = json.loads(line) if line.strip() else None
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(f"it is no JSON ({error})") from None
            if row is not None and not isinstance(row, dict):
                raise ValueError("it is no JSON object of columns")
        if isinstance(row, dict):
            yield number, row
