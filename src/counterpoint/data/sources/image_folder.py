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
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any, cast, get_args

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.images import decode, middle
from counterpoint.data.sources.arrays import PART_NAMES, PARTS, divided, held_out
from counterpoint.data.sources.captioned import Captions, captioned, picked
from counterpoint.data.sources.files import MANIFEST, inside
from counterpoint.data.split import Split
from counterpoint.data.text import Tokens, Vocabulary, warn_of_unknown, words_of

TABLES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Names of files that are taken for images where the table does not name them end so,
in small letters or large."""

IN_MEMORY = 1 << 31
"""Most bytes of images that are decoded into memory; where there are more, they are
decoded whenever a batch asks for them."""

_SAID = ("caption", "captions", "text")


@dataclass(frozen=True)
class _Photo:
    path: Path
    where: str  # the row that names it


_Read = Callable[[_Photo], np.ndarray]


@dataclass(frozen=True)
class _Entry:
    """What the table says of one image, or in a row without one."""

    where: str
    photo: _Photo | None
    captions: tuple[str, ...]
    label: int | str | None
    part: str | None
    lost: bool = False  # the table names an image that is not there


@dataclass
class _Bad:
    """What is bad: an error, or where it may be skipped, a list."""

    skip: bool
    found: list[str] = field(default_factory=list)

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """A block in which a ValueError speaks of what stands there."""
        try:
            yield
        except ValueError as error:
            self.found.append(f"{where}: {error}")
            if not self.skip:
                raise ValueError(
                    f"{where}: {error}; mend it, or pass skip_bad to leave out what is bad"
                ) from None


def is_image_folder(path: Path) -> bool:
    """Whether a folder holds a table of captions, and is no prepared set."""
    return any((path / name).is_file() for name in TABLES) and not (path / MANIFEST).exists()


def image_folder(
    folder: Path,
    size: int = 32,
    length: int = 32,
    min_count: int = 3,
    captions: Captions = "one",
    tokens: Tokens = "words",
    vocabulary_size: int | None = None,
    vocabulary: str | Path | None = None,
    skip_bad: bool = False,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> Dataset:
    """Images ``image`` (3×size×size) and word ids ``caption`` (length) of a folder;
    shared label ``label`` where the table has it, −1 where it is unknown.

    An image is the largest square in its middle, shrunk. The ``words`` of ``caption``
    are the vocabulary, learned from the captions of the training images. The notes say
    what is incomplete and list what was skipped.

    Args:
        size: side of the image.
        length: tokens of a caption; longer ones are cut, shorter ones padded.
        min_count: how often the training captions must hold a word for it to have an
            id, or a pair of pieces to be joined.
        captions: ``"one"`` fixes a caption for each image by the seed; ``"all"`` makes
            a row of each image and caption.
        tokens: ``"words"``, ``"pieces"`` of words, or ``"characters"``
            (:mod:`counterpoint.data.text`).
        vocabulary_size: most tokens.
        vocabulary: file of a vocabulary (:meth:`Vocabulary.save`) that is taken instead
            of a learned one; a word outside it is bad.
        skip_bad: leave out what is bad, and warn; the images are read once more for
            that.
        fractions: of train, val and test, where the table names no splits.
        seed: of the captions and the division.

    Raises:
        FileNotFoundError: no such vocabulary.
        ValueError: an option out of range, more than one table, a table without the
            columns, what is bad, or a split without rows.
    """
    for option, value, least in (("size", size, 8), ("length", length, 1)):
        if value < least:
            raise ValueError(f"{option} {value} of {folder} must be {least} or more")
    if captions not in get_args(Captions):
        raise ValueError(
            f"captions {captions!r} of {folder} must be one of {', '.join(get_args(Captions))}"
        )
    if vocabulary is not None and (tokens != "words" or vocabulary_size is not None):
        raise ValueError(
            f"vocabulary {vocabulary} is given, and not learned; leave out tokens and vocabulary_size"
        )
    bad = _Bad(skip_bad)
    given = None if vocabulary is None else Vocabulary.load(vocabulary)
    entries = _entries(folder, given, bad)
    read = partial(_pixels, size=size)
    if skip_bad:
        entries = _readable(entries, read, bad)
    chosen, held = _divided(entries, folder, captions, fractions, seed)
    learned = (text for entry, _ in chosen["train"] for text in entry.captions)
    words = given or Vocabulary.learn(learned, tokens, min_count=min_count, size=vocabulary_size)
    modalities = (
        Modality("image", (3, size, size), "laplace", 0.75),
        words.modality("caption", length),
    )
    lazy = (
        sum(max(1, len(texts)) for rows in chosen.values() for _, texts in rows) * 3 * size**2
        > IN_MEMORY
    )
    labels = _numbered([entry.label for entry in entries])
    splits = {
        part: _split(rows, words, modalities, read, labels, lazy) for part, rows in chosen.items()
    }
    if given is None:
        warn_of_unknown(
            words,
            splits["val"].x["caption"][splits["val"].present["caption"]],
            f"the validation captions of {folder}",
        )
    if lazy:
        warnings.warn(
            f"the images of {folder} take more than {IN_MEMORY / 2**30:.3g} GiB and are decoded whenever a batch asks for them;"
            f" counterpoint data pack {folder} --out FOLDER does so once and for all",
            stacklevel=2,
        )
    notes = {**_notes(folder, entries, labels, bad), **held}
    return Dataset(folder.name, modalities, splits["train"], splits["val"], splits["test"], notes)


def _pixels(photo: _Photo, size: int) -> np.ndarray:
    """The largest square in the middle of a photo, (3, size, size)."""
    return middle(decode(photo.path, f"{photo.path} ({photo.where})", "RGB"), size)


def _entries(folder: Path, vocabulary: Vocabulary | None, bad: _Bad) -> list[_Entry]:
    """What the table says, and the images that it does not name."""
    found: dict[str, _Entry] = {}
    ids: set[Any] = set()
    named: set[str] = set()
    for where, row in _rows(folder, bad):
        with bad.at(where):
            name = _typed(row, "file_name")
            key = PurePosixPath(name).as_posix() if name else where
            named.add(key)
            if name:
                inside(folder, name)
            entry, number = _entry(folder, where, row, vocabulary), _typed(row, "id")
            if number is not None and number in ids:
                raise ValueError(f"id {number!r} is there already")
            found[key] = _joined(found[key], entry) if key in found else entry
            ids.add(number)
    divides = any(entry.part for entry in found.values())
    for key in [key for key, entry in found.items() if divides and not entry.part]:
        with bad.at(found.pop(key).where):
            raise ValueError("split is null, and other rows have one")
    for path in sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGES and path.is_file()
    ):
        if (name := path.relative_to(folder).as_posix()) not in named:
            with bad.at(str(path)):
                photo = _Photo(inside(folder, name), "which the table does not name")
                found[name] = _Entry(str(path), photo, (), None, "train" if divides else None)
    return [*found.values()]


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
) -> _Entry:
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
    photo = _Photo(path, where) if path is not None and path.is_file() else None
    if photo is None and not texts:
        raise ValueError(
            "neither an image nor a caption" if path is None else f"no file {path}, and no caption"
        )
    return _Entry(
        where,
        photo,
        tuple(texts),
        label,
        None if part is None else PART_NAMES[part],
        name is not None and photo is None,
    )


def _joined(first: _Entry, more: _Entry) -> _Entry:
    """Two rows of one image.

    Raises:
        ValueError: they disagree.
    """
    for what, one, other in (("label", first.label, more.label), ("split", first.part, more.part)):
        if one != other:
            raise ValueError(f"{what} of the image is {other!r} here and {one!r} in {first.where}")
    return replace(first, captions=(*first.captions, *more.captions))


def _rows(folder: Path, bad: _Bad) -> Iterator[tuple[str, Mapping[str, Any]]]:
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
        _csv(table, text, bad) if table.suffix == ".csv" else _jsonl(table, text, bad)
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


def _csv(table: Path, text: str, bad: _Bad) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Lines and rows of CSV with a header; what is empty is null."""
    lines = csv.reader(StringIO(text, newline=""), strict=True)
    header = next(lines, [])
    if len({*header}) < len(header):
        raise ValueError(f"{table} names a column twice in {', '.join(header)}; leave one of them")
    while True:
        number, fields = lines.line_num + 1, []
        with bad.at(f"{table} line {number}"):
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


def _jsonl(table: Path, text: str, bad: _Bad) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Lines and rows of text that holds a JSON object a line."""
    for number, line in enumerate(text.split("\n"), 1):
        row = None
        with bad.at(f"{table} line {number}"):
            try:
                row = json.loads(line) if line.strip() else None
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(f"it is no JSON ({error})") from None
            if row is not None and not isinstance(row, dict):
                raise ValueError("it is no JSON object of columns")
        if isinstance(row, dict):
            yield number, row


def _readable(entries: Sequence[_Entry], read: _Read, bad: _Bad) -> list[_Entry]:
    """The entries whose images can be read."""

    def flaw(entry: _Entry) -> str | None:
        try:
            if entry.photo is not None:
                read(entry.photo)
        except ValueError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        flaws = [*pool.map(flaw, entries)]
    bad.found += [text for text in flaws if text]
    return [entry for entry, text in zip(entries, flaws, strict=True) if not text]


_Chosen = tuple[_Entry, tuple[str, ...]]  # an entry, and the captions that are used of it


def _divided(
    entries: Sequence[_Entry],
    folder: Path,
    captions: Captions,
    fractions: tuple[float, float, float],
    seed: int,
) -> tuple[dict[str, list[_Chosen]], dict[str, str]]:
    """The rows of each split, and notes on those that were held out from train."""
    for what, there in (
        ("image that is there", (e.photo for e in entries)),
        ("caption", (e.captions for e in entries)),
    ):
        if not any(there):
            raise ValueError(
                f"the table of {folder} names no {what}; see whether its paths begin at the folder and its columns are right"
            )
    rng = np.random.default_rng((seed, 1))  # a stream beside that of the division
    chosen = [
        *zip(entries, picked([entry.captions for entry in entries], captions, rng), strict=True)
    ]
    if any(entry.part for entry in entries):
        parts = {part: [row for row in chosen if row[0].part == part] for part in PARTS}
        if not parts["train"]:
            raise ValueError(
                f"the table of {folder} gives the train split no row; give it rows, or leave split out"
            )
        notes: dict[str, str] = {}
        for part, share in zip(PARTS[1:], fractions[1:], strict=True):
            if not parts[part]:
                groups = np.unique(
                    [str(entry.label) for entry, _ in parts["train"]], return_inverse=True
                )[1].reshape(-1)
                out, notes[part] = held_out(folder, part, groups, share, seed)
                parts[part] = [row for row, held in zip(parts["train"], out, strict=True) if held]
                parts["train"] = [
                    row for row, held in zip(parts["train"], out, strict=True) if not held
                ]
        return parts, notes
    return {
        part: [chosen[i] for i in index]
        for part, index in divided(len(chosen), fractions, seed).items()
    }, {}


def _split(
    rows: Sequence[_Chosen],
    words: Vocabulary,
    modalities: tuple[Modality, Modality],
    read: _Read,
    labels: dict[Any, int],
    lazy: bool,
) -> Split:
    """One split: a row for each entry and text, and one for an entry without, whose
    caption is absent."""
    x, present, index = captioned(
        [entry.photo for entry, _ in rows],
        [texts for _, texts in rows],
        read,
        modalities,
        words,
        lazy=lazy,
    )
    label = np.array([labels.get(entry.label, -1) for entry, _ in rows])[index]
    return Split(x, modalities, present, {"label": label} if labels else {})


def _numbered(labels: Sequence[int | str | None]) -> dict[Any, int]:
    """The number of each label: itself where all are whole numbers, its place in the
    alphabet where not. Null has none."""
    known = {*labels} - {None}
    if all(isinstance(label, int) or str(label).isdecimal() for label in known):
        return {label: int(cast(str, label)) for label in known}
    return {label: i for i, label in enumerate(sorted(known, key=str))}


def _notes(
    folder: Path, entries: Sequence[_Entry], labels: Mapping[Any, int], bad: _Bad
) -> dict[str, str]:
    """What a reader must know, and a warning of what was skipped."""
    unseen, lost, mute = (
        sum(map(bool, are))
        for are in zip(*((not e.photo, e.lost, not e.captions) for e in entries), strict=True)
    )
    notes = {
        "images": "the largest square in the middle of each",
        "incomplete": f"{unseen} without an image ({lost} named and not there), {mute} without a caption",
    }
    if any(isinstance(label, str) and not label.isdecimal() for label in labels):
        notes["label/label"] = ", ".join(map(str, labels))
    if bad.found:
        notes["skipped"] = f"{len(bad.found)}: " + "; ".join(bad.found)
        warnings.warn(
            f"{folder}: skipped {len(bad.found)}, the first {bad.found[0]}; the notes list all",
            stacklevel=3,
        )
    return notes
