"""Read the two layouts of CUB-200-2011: as published, and as one table."""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.data.images import Box
from counterpoint.data.sources.files import inside

TABLE = "captions.jsonl.gz"
PAIRED = "images_paired_bbox227.zip"
UNCAPTIONED = "images_uncaptioned_bbox227.zip"

WHERE = "fetch it from https://www.vision.caltech.edu/datasets/cub_200_2011"

_CAPTIONS_WHERE = "fetch the captions from https://github.com/reedscot/cvpr2016"

CLUSTERS = ("Blackbird", "Gull", "Jay", "Oriole", "Tanager", "Tern", "Warbler", "Wren")
"""Groups of species, by the last word of their names."""

# parts: beak, crown, forehead, eyes; back, belly, breast, tail
_HEAD = {"2", "5", "6", "7", "11"}
_BODY = {"1", "3", "4", "14"}

# Of the published lists, after the image's number.
_COLUMNS = {
    "image_class_labels": 1,
    "train_test_split": 1,
    "bounding_boxes": 4,
}


@dataclass(frozen=True)
class Photo:
    """A photo: its file or bytes, and where in it the bird is (x, y, width, height).
    The bounds are None if the photo is cropped already."""

    name: str
    content: Path | bytes
    bounds: Box | None


@dataclass(frozen=True)
class Bird:
    """One image of the list.

    Attributes:
        path: species and file, ``001.Black_footed_Albatross/NAME.jpg``.
        species: its number, from 0 on.
        facing: 0 left, 1 right, −1 unknown; None where the files do not say.
    """

    path: str
    species: int
    train: bool
    captions: tuple[str, ...]
    photo: Photo | None
    facing: int | None = None

    @property
    def cluster(self) -> int:
        """Its number among the clusters, −1 for another bird."""
        name = self.path.partition("/")[0].rpartition("_")[2]
        return CLUSTERS.index(name) if name in CLUSTERS else -1


def published(folder: Path, unpaired: bool, clustered: bool) -> list[Bird]:
    """Read the published layout, in the order of ``images.txt``. ``clustered`` asks
    where birds look."""
    place = folder / "CUB_200_2011"
    images = _listed(place / "images.txt", 1)
    tables = {name: _listed(place / f"{name}.txt", columns) for name, columns in _COLUMNS.items()}
    for name, table in tables.items():
        if table.keys() != images.keys():
            raise ValueError(
                f"{place / name}.txt has {len(table)} rows, expected one for each of the {len(images)} of images.txt; {WHERE} again"
            )
    looks = facing(place / "parts" / "part_locs.txt") if clustered else None
    birds = []
    for key, (path,) in images.items():
        try:
            (species,), (train,) = (
                map(int, tables[name][key]) for name in ("image_class_labels", "train_test_split")
            )
            x, y, width, height = map(float, tables["bounding_boxes"][key])
        except ValueError as error:
            raise ValueError(
                f"{place}: image {key} has a label, split or bounding box that is no number ({error}); {WHERE} again"
            ) from error
        file = _there(
            inside(place / "images", path),
            unpaired,
            f"{WHERE} again, or pass unpaired=True to keep captions without an image",
        )
        text = _there(
            inside(folder / "text_c10", path).with_suffix(".txt"),
            unpaired,
            f"{_CAPTIONS_WHERE}, or pass unpaired=True to keep images without captions",
        )
        photo = None if file is None else Photo(str(file), file, (x, y, width, height))
        look = None if looks is None else looks.get(key, -1)
        birds.append(
            Bird(path, species - 1, train == 1, () if text is None else _lines(text), photo, look)
        )
    _check_unique(place / "images.txt", birds)
    return birds


def _listed(path: Path, columns: int) -> dict[str, list[str]]:
    """A published list: the number of an image, then so many columns."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {WHERE} again")
    table = {}
    for number, line in enumerate(
        path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
    ):
        key, *values = line.split() or [""]
        if len(values) != columns:
            raise ValueError(
                f"{path}: line {number} is {line!r}, expected the number of an image and {columns} more; {WHERE} again"
            )
        table[key] = values
    return table


def facing(path: Path) -> dict[str, int] | None:
    """Read whether each bird looks left (0) or right (1), by the number of its image;
    −1 where that is not visible. Without the file, return None.

    A line is the numbers of an image and a part, x and y of the part, and whether it is
    visible.
    """
    if not path.is_file():
        return None
    heads: dict[str, list[float]] = defaultdict(list)
    bodies: dict[str, list[float]] = defaultdict(list)
    for number, line in enumerate(
        path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
    ):
        try:
            image, part, x, _, visible = line.split()
            for points, parts in ((heads, _HEAD), (bodies, _BODY)):
                points[image] += [float(x)] if part in parts and int(visible) else []
        except ValueError:
            raise ValueError(
                f"{path}: line {number} is {line!r}, expected image, part, x, y and whether it is visible; {WHERE} again"
            ) from None
    sides = {
        image: np.sign(np.mean(heads[image]) - np.mean(bodies[image]))
        if heads[image] and bodies[image]
        else 0
        for image in heads
    }
    return {image: {-1: 0, 0: -1, 1: 1}[int(side)] for image, side in sides.items()}


def _there(path: Path, unpaired: bool, remedy: str) -> Path | None:
    """The path if it is a file; None if it may lack and does."""
    if path.is_file():
        return path
    if unpaired:
        return None
    raise FileNotFoundError(f"{path} is missing; {remedy}")


def _lines(path: Path) -> tuple[str, ...]:
    """The captions of a file."""
    found = tuple(
        line
        for line in path.read_bytes().decode("utf-8", errors="replace").splitlines()
        if line.strip()
    )
    if not found:
        raise ValueError(f"{path} holds no caption, expected one a line; {_CAPTIONS_WHERE}")
    return found


def from_table(folder: Path, unpaired: bool) -> list[Bird]:
    """Read the layout of one table, in its order. Without ``unpaired``, only the zip of
    images with captions is read."""
    photos: dict[str, bytes] = {}
    for archive in (PAIRED, UNCAPTIONED)[: 1 + unpaired]:
        photos |= _unzipped(folder / archive)
    birds = []
    for row in _rows(folder / TABLE):
        if (
            row["image_src"] is not None
            and (unpaired or row["captions"])
            and row["path"] not in photos
        ):
            raise ValueError(
                f"{folder / TABLE} names an image {row['path']} that no zip beside it holds; fetch the zips again"
            )
        content = photos.pop(row["path"], None)
        photo = None if content is None else Photo(row["path"], content, None)
        birds.append(
            Bird(
                row["path"],
                row["label"],
                row["cub_is_train"] == 1,
                tuple(row["captions"] or ()),
                photo,
            )
        )
    _check_unique(folder / TABLE, birds)
    if photos:
        raise ValueError(
            f"{folder / TABLE} has no row for {len(photos)} images of the zips, {min(photos)} for one; fetch it again"
        )
    return birds


def _rows(path: Path) -> list[Mapping[str, Any]]:
    """The rows of the table, their types checked."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is truncated or corrupt ({error}); fetch it again") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            texts = row["captions"]
            good = (
                isinstance(row["path"], str)
                and isinstance(row["label"], int)
                and row["cub_is_train"] in (0, 1)
                and "image_src" in row
            )
            good &= texts is None or (
                isinstance(texts, list)
                and len(texts) > 0
                and all(isinstance(t, str) and t.strip() for t in texts)
            )
        except (json.JSONDecodeError, KeyError, TypeError):
            good = False
        if not good:
            raise ValueError(
                f"{path}: line {number} is not a row of path, label, cub_is_train (0 or 1), captions (texts or null) and image_src; fetch it again"
            )
        rows.append(row)
    return rows


def _unzipped(path: Path) -> dict[str, bytes]:
    """The files of a zip, in memory."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; put it beside {TABLE}")
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                name: archive.read(name) for name in archive.namelist() if not name.endswith("/")
            }
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is truncated or corrupt ({error}); fetch it again") from error


def _check_unique(path: Path, birds: Iterable[Bird]) -> None:
    """An image that is listed twice might stand in two splits."""
    repeated = [name for name, count in Counter(bird.path for bird in birds).items() if count > 1]
    if repeated:
        raise ValueError(f"{path} lists {repeated[0]} more than once; fetch it again")
