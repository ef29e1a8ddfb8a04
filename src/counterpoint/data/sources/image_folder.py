"""A folder of images and a table of what is said of them
(:mod:`counterpoint.data.sources.image_table`) as a data set: ``image`` and
``caption``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.division import PARTS, Fractions, divided, group_numbers, held_out
from counterpoint.data.faults import Faults
from counterpoint.data.images import decode, middle
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.captioned import Captions, captioned, picked
from counterpoint.data.sources.files import MANIFEST
from counterpoint.data.sources.image_table import TABLES, Entry, Photo, read_entries
from counterpoint.data.split import Split
from counterpoint.data.text import Tokens, Vocabulary, warn_of_unknown

IN_MEMORY = 1 << 31
"""Most bytes of images that are decoded into memory; where there are more, they are
decoded whenever a batch asks for them."""

ReadPhoto = Callable[[Photo], np.ndarray]

Chosen = tuple[Entry, tuple[str, ...]]
"""An entry, and the captions that are used of it."""


@dataclass(frozen=True)
class ImageFolderOptions:
    """Options of a folder of images.

    Args:
        size: side of the image.
        length: tokens of a caption; longer ones are cut, shorter ones padded.
        min_count: how often the training captions must hold a word for it to have an
            id, or a pair of pieces to be joined.
        captions: "one" fixes a caption for each image by the seed; "all" makes a row of
            each image and caption.
        tokens: "words", "pieces" of words, or "characters".
        vocabulary_size: most tokens.
        vocabulary: file of a vocabulary that is taken instead of a learned one; a word
            outside it is bad.
        skip_bad: leave out what is bad, list it in the notes and warn; the images are
            read once more for that.
    """

    size: int = 32
    length: int = 32
    min_count: int = 3
    captions: Captions = "one"
    tokens: Tokens = "words"
    vocabulary_size: int | None = None
    vocabulary: str | Path | None = None
    skip_bad: bool = False


def is_image_folder(path: Path) -> bool:
    """Whether a folder holds a table of captions, and is no prepared set."""
    return any((path / name).is_file() for name in TABLES) and not (path / MANIFEST).exists()


def image_folder(request: Request, options: ImageFolderOptions) -> Dataset:
    """Read images ``image`` (3×size×size) and word ids ``caption`` (length) of a
    folder; shared label ``label`` where the table has it, −1 where it is unknown.

    An image is the largest square in its middle, shrunk. The ``words`` of ``caption``
    are the vocabulary, learned from the captions of the training images. The notes say
    what is incomplete and list what was skipped.

    Raises:
        FileNotFoundError: no such vocabulary.
        ValueError: an option out of range, more than one table, a table without the
            columns, what is bad, or a split without rows.
    """
    folder = request.path
    size = options.size
    _check(options, folder)
    faults = Faults(str(folder), options.skip_bad)
    known = None if options.vocabulary is None else Vocabulary.load(options.vocabulary)
    entries = read_entries(folder, known, faults)
    read = partial(_pixels, size=size)
    if options.skip_bad:
        entries = _readable(entries, read, faults)
    chosen, held = _divided(entries, folder, options.captions, request.fractions, request.seed)
    words = known or _learned(chosen["train"], options)
    modalities = (
        Modality("image", (3, size, size), "laplace", 0.75),
        words.modality("caption", options.length),
    )
    lazy = _is_large(chosen, size)
    labels = _numbered([entry.label for entry in entries])
    splits = {
        part: _split(rows, words, modalities, read, labels, lazy) for part, rows in chosen.items()
    }
    if known is None:
        captions = splits["val"].x["caption"][splits["val"].present["caption"]]
        warn_of_unknown(words, captions, f"the validation captions of {folder}")
    if lazy:
        warnings.warn(
            f"the images of {folder} take more than {IN_MEMORY / 2**30:.3g} GiB and are decoded whenever a batch asks for them;"
            f" counterpoint data pack {folder} --out FOLDER does so once and for all",
            stacklevel=2,
        )
    notes = {**_notes(entries, labels), **faults.settle(), **held}
    return Dataset(folder.name, modalities, splits["train"], splits["val"], splits["test"], notes)


def _check(options: ImageFolderOptions, folder: Path) -> None:
    """Check the options; raise a ValueError where one is out of range."""
    for option, value, least in (("size", options.size, 8), ("length", options.length, 1)):
        if value < least:
            raise ValueError(f"{option} {value} of {folder} must be {least} or more")
    if options.captions not in get_args(Captions):
        raise ValueError(
            f"captions {options.captions!r} of {folder} must be one of {', '.join(get_args(Captions))}"
        )
    if options.vocabulary is not None and (
        options.tokens != "words" or options.vocabulary_size is not None
    ):
        raise ValueError(
            f"vocabulary {options.vocabulary} is given, and not learned; leave out tokens and vocabulary_size"
        )


def _learned(rows: Sequence[Chosen], options: ImageFolderOptions) -> Vocabulary:
    """The vocabulary of the captions of training images."""
    texts = (text for entry, _ in rows for text in entry.captions)
    return Vocabulary.learn(
        texts, options.tokens, min_count=options.min_count, size=options.vocabulary_size
    )


def _is_large(chosen: Mapping[str, Sequence[Chosen]], size: int) -> bool:
    """Whether the images would take too much memory."""
    images = sum(max(1, len(texts)) for rows in chosen.values() for _, texts in rows)
    return images * 3 * size**2 > IN_MEMORY


def _pixels(photo: Photo, size: int) -> np.ndarray:
    """The largest square in the middle of a photo, (3, size, size)."""
    return middle(decode(photo.path, f"{photo.path} ({photo.where})", "RGB"), size)


def _readable(entries: Sequence[Entry], read: ReadPhoto, faults: Faults) -> list[Entry]:
    """The entries whose images can be read."""

    def flaw(entry: Entry) -> str | None:
        try:
            if entry.photo is not None:
                read(entry.photo)
        except ValueError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        flaws = [*pool.map(flaw, entries)]
    for text in filter(None, flaws):
        faults.row(text)
    return [entry for entry, text in zip(entries, flaws, strict=True) if not text]


def _divided(
    entries: Sequence[Entry],
    folder: Path,
    captions: Captions,
    fractions: Fractions,
    seed: int,
) -> tuple[dict[str, list[Chosen]], dict[str, str]]:
    """The rows of each split, and notes on those that were held out from train."""
    photos = [e.photo for e in entries]
    texts = [e.captions for e in entries]
    for lacking, there in (("image that is there", photos), ("caption", texts)):
        if not any(there):
            raise ValueError(
                f"the table of {folder} names no {lacking}; see whether its paths begin at the folder and its columns are right"
            )
    rng = np.random.default_rng((seed, 1))  # a stream beside that of the division
    chosen = [*zip(entries, picked(texts, captions, rng), strict=True)]
    if any(entry.part for entry in entries):
        return _as_named(chosen, folder, fractions, seed)
    index = divided(len(chosen), fractions, seed)
    return {part: [chosen[i] for i in rows] for part, rows in index.items()}, {}


def _as_named(
    chosen: Sequence[Chosen], folder: Path, fractions: Fractions, seed: int
) -> tuple[dict[str, list[Chosen]], dict[str, str]]:
    """The rows of each split as the table names them; a val or test that it does not
    name is held out from train, and a note says so."""
    parts = {part: [row for row in chosen if row[0].part == part] for part in PARTS}
    if not parts["train"]:
        raise ValueError(
            f"the table of {folder} gives the train split no row; give it rows, or leave split out"
        )
    notes: dict[str, str] = {}
    for part, share in zip(PARTS[1:], fractions[1:], strict=True):
        if parts[part]:
            continue
        train = parts["train"]
        groups = group_numbers([str(entry.label) for entry, _ in train])
        out, notes[part] = held_out(folder, part, groups, share, seed)
        parts[part] = [row for row, held in zip(train, out, strict=True) if held]
        parts["train"] = [row for row, held in zip(train, out, strict=True) if not held]
    return parts, notes


def _split(
    rows: Sequence[Chosen],
    words: Vocabulary,
    modalities: tuple[Modality, Modality],
    read: ReadPhoto,
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


def _notes(entries: Sequence[Entry], labels: Mapping[Any, int]) -> dict[str, str]:
    """What a reader must know."""
    unseen = sum(not entry.photo for entry in entries)
    lost = sum(entry.lost for entry in entries)
    mute = sum(not entry.captions for entry in entries)
    notes = {
        "images": "the largest square in the middle of each",
        "incomplete": f"{unseen} without an image ({lost} named and not there), {mute} without a caption",
    }
    if any(isinstance(label, str) and not label.isdecimal() for label in labels):
        notes["label/label"] = ", ".join(map(str, labels))
    return notes


SOURCE = Source(
    "image folder",
    "a folder of images with a table of captions",
    ImageFolderOptions,
    image_folder,
    frozenset({"missing", "fractions"}),
    recognises=is_image_folder,
)
