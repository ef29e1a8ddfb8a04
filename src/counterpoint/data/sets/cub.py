"""``cub``: photos of birds and what people wrote about them, one caption of ten a
photo.

Caltech-UCSD Birds 200-2011 (Wah et al. 2011,
https://www.vision.caltech.edu/datasets/cub_200_2011) with the captions of Reed et al.,
"Generative Adversarial Text to Image Synthesis", 2016,
https://arxiv.org/abs/1605.05395.

The words that the training captions hold often enough are the vocabulary
(:mod:`counterpoint.data.text`). How words are cut, which training images validate and
how a box becomes a square is left open by the papers, and chosen here.
"""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.images import Box, decode, shrink, square
from counterpoint.data.sets.compose import hold_out
from counterpoint.data.sources.captioned import Captions, captioned, picked
from counterpoint.data.sources.files import inside
from counterpoint.data.split import Split
from counterpoint.data.text import Vocabulary, warn_of_unknown

Classes = Literal["species", "clusters"]

TABLE, PAIRED, UNCAPTIONED = (
    "captions.jsonl.gz",
    "images_paired_bbox227.zip",
    "images_uncaptioned_bbox227.zip",
)

_VAL_PER_CLASS = 3  # a tenth of the 30 training images that a species has

_WHERE = "fetch it from https://www.vision.caltech.edu/datasets/cub_200_2011"

_CAPTIONS_WHERE = "fetch the captions from https://github.com/reedscot/cvpr2016"

CLUSTERS = ("Blackbird", "Gull", "Jay", "Oriole", "Tanager", "Tern", "Warbler", "Wren")
"""Groups of species, by the last word of their names."""

_HEAD, _BODY = (
    {"2", "5", "6", "7", "11"},
    {"1", "3", "4", "14"},
)  # parts: beak, crown, forehead, eyes; back, belly, breast, tail

_COLUMNS = {
    "image_class_labels": 1,
    "train_test_split": 1,
    "bounding_boxes": 4,
}  # of the published lists, after the image's number


@dataclass(frozen=True)
class _Photo:
    """A photo: its file or the bytes of one, and where in it the bird is (x, y, width,
    height), None where it is cropped already."""

    name: str
    content: Path | bytes
    bounds: Box | None


@dataclass(frozen=True)
class _Bird:
    """One image of the list: what is known of it, and what is at hand.

    Attributes:
        path: species and file, ``001.Black_footed_Albatross/NAME.jpg``.
        species: its number, from 0 on.
        facing: 0 left, 1 right, −1 unknown; None where the files do not say.
    """

    path: str
    species: int
    train: bool
    captions: tuple[str, ...]
    photo: _Photo | None
    facing: int | None = None

    @property
    def cluster(self) -> int:
        """Its number among the clusters, −1 for another bird."""
        name = self.path.partition("/")[0].rpartition("_")[2]
        return CLUSTERS.index(name) if name in CLUSTERS else -1


_Row = tuple[_Bird, tuple[str, ...]]  # an image, and the captions that are used of it


def cub(
    root: Path,
    size: int = 32,
    length: int = 32,
    min_count: int = 3,
    captions: Captions = "one",
    unpaired: bool = False,
    classes: Classes = "species",
    seed: int = 0,
) -> Dataset:
    """Photos ``image`` (3×size×size) and word ids ``caption`` (length); shared label
    ``class``, the number of the species from 0 on, or ``cluster``.

    Two layouts are read, from ``root/cub`` or ``root``:

    - as published: ``CUB_200_2011/`` with ``images.txt``, ``image_class_labels.txt``,
      ``train_test_split.txt``, ``bounding_boxes.txt`` and ``images/SPECIES/FILE.jpg``,
      and beside it ``text_c10/SPECIES/FILE.txt``, a caption a line. A photo is cropped
      to the square about its bounding box that has the box's longer side, clipped to
      the photo (what is clipped is stretched to a square again);
    - one table: ``captions.jsonl.gz``, a row an image with ``path``, ``label``,
      ``cub_is_train``, ``captions`` (or null) and ``image_src`` (null: no photo), and
      photos in ``images_paired_bbox227.zip`` and ``images_uncaptioned_bbox227.zip``.
      These are cropped already, to the bounding box itself and stretched to 227×227,
      and are not cropped again.

    Test is the published test set. Of the training images of each species three, always
    the same in either layout, validate: a tenth. The ``words`` of ``caption`` are the
    vocabulary; the notes hold the species as ``label/class``.

    With ``classes="clusters"`` the labels are those of IDMVAE (Zhang, Shen and Wang,
    "Disentanglement of Variations with Multimodal Generative Modeling", 2026,
    https://arxiv.org/abs/2509.23548): the shared label ``cluster`` is one of eight
    groups of species, Blackbird, Gull, Jay, Oriole, Tanager, Tern, Warbler and Wren,
    after CUBICC (Palumbo et al., "Deep Generative Clustering with Multimodal Diffusion
    Variational Autoencoders", 2024, https://openreview.net/forum?id=k5THrhXDV3), and
    the private label ``facing`` of ``image`` says whether the bird looks left (0) or
    right (1) in the photo. Birds of other species train, with the label −1, which
    nothing is measured on, and are neither in val nor in test.

    Three things are ours, since the authors publish tensors and not how they were made.
    CUBICC has 22 species, which are not named; here are all those of the eight names,
    60 of the 200, 25 of which are warblers. The splits are those above; theirs are 70 :
    15 : 15. A bird looks left where its head (the mean of beak, crown, forehead and
    eyes, as far as they are visible) is left of its body (back, belly, breast and
    tail), which is their rule as far as it is told; where no part of one of them is
    visible, that is unknown (−1). The points are those of
    ``CUB_200_2011/parts/part_locs.txt``, which the layout of one table has not; without
    them there is no ``facing``, and the notes say so.

    Args:
        size: side of the image.
        length: words of a caption; longer ones are cut, shorter ones padded.
        min_count: how often the training captions must hold a word for it to have an
            id.
        captions: ``"one"`` fixes a caption for each image by the seed; ``"all"`` makes
            a row of each image and caption.
        unpaired: keep images without captions and captions without an image, too; the
            modality that lacks is marked absent.
        classes: ``"species"``, or ``"clusters"`` of them.

    Raises:
        FileNotFoundError: a file is not there (with ``unpaired``, photos and captions
            of the published layout may lack).
        ValueError: an option out of range, a file that is corrupt or laid out
            otherwise, or a split without rows.
    """
    for option, value, least in (
        ("size", size, 8),
        ("length", length, 1),
        ("min_count", min_count, 1),
    ):
        if value < least:
            raise ValueError(f"{option} {value} of cub must be {least} or more")
    for option, chosen, choices in (
        ("captions", captions, get_args(Captions)),
        ("classes", classes, get_args(Classes)),
    ):
        if chosen not in choices:
            raise ValueError(f"{option} {chosen!r} of cub must be one of {', '.join(choices)}")
    folder = next(
        (
            p
            for p in (root / "cub", root)
            if (p / TABLE).is_file() or (p / "CUB_200_2011" / "images.txt").is_file()
        ),
        None,
    )
    if folder is None:
        raise FileNotFoundError(
            f"neither CUB_200_2011/images.txt nor {TABLE} is in {root / 'cub'} or in {root}; {_WHERE}"
        )
    single, clustered = (folder / TABLE).is_file(), classes == "clusters"
    birds = _from_table(folder, unpaired) if single else _published(folder, unpaired, clustered)
    divided = _divided(birds, captions, unpaired, clustered, seed)
    for part, rows in divided.items():
        if not rows:
            remedy = "" if unpaired else ", or unpaired=True"
            raise ValueError(
                f"{folder} gives the {part} split no row; give all images of a species{remedy}"
            )
    vocabulary = Vocabulary.learn(
        (text for bird, _ in divided["train"] for text in bird.captions), min_count=min_count
    )
    modalities = (
        Modality("image", (3, size, size), "laplace", 0.75),
        vocabulary.modality("caption", length),
    )
    splits = {
        part: _split(rows, vocabulary, modalities, clustered) for part, rows in divided.items()
    }
    warn_of_unknown(
        vocabulary,
        splits["val"].x["caption"][splits["val"].present["caption"]],
        "the validation captions of cub",
    )
    notes = {
        "source": "CUB-200-2011 with the captions of Reed et al. 2016",
        "crops": "bounding boxes stretched to squares beforehand"
        if single
        else "squares about the bounding boxes",
        "label/class": ", ".join(
            sorted({bird.path.partition("/")[0] for rows in divided.values() for bird, _ in rows})
        ),
    }
    if clustered:
        notes["label/cluster"] = ", ".join(CLUSTERS)
        known = any(bird.facing is not None for bird in birds)
        notes["label/facing"] = (
            "left, right" if known else "unknown: CUB_200_2011/parts/part_locs.txt is not there"
        )
    return Dataset("cub", modalities, splits["train"], splits["val"], splits["test"], notes)


def _divided(
    birds: Sequence[_Bird], captions: Captions, unpaired: bool, clustered: bool, seed: int
) -> dict[str, list[_Row]]:
    """The rows of each split. Captions and splits are drawn before rows are left out,
    and do not hang on which are."""
    validates = _validating(birds)
    chosen: dict[str, list[_Row]] = {"train": [], "val": [], "test": []}
    for bird, texts in zip(
        birds,
        picked([bird.captions for bird in birds], captions, np.random.default_rng(seed)),
        strict=True,
    ):
        part = "test" if not bird.train else "val" if bird.path in validates else "train"
        if (any if unpaired else all)((bird.photo, texts)) and (
            part == "train" or not clustered or bird.cluster >= 0
        ):
            chosen[part].append((bird, texts))
    return chosen


def _validating(birds: Iterable[_Bird]) -> set[str]:
    """The training images that validate: of each species by a stream of its own, so
    that they hang on nothing else."""
    training = sorted((bird.species, bird.path) for bird in birds if bird.train)
    chosen = set()
    for species, group in groupby(training, key=lambda pair: pair[0]):
        paths = [path for _, path in group]
        _, held_out = hold_out(
            np.zeros(len(paths)), _VAL_PER_CLASS, np.random.default_rng((2011, species))
        )
        chosen |= {paths[i] for i in held_out}
    return chosen


def _split(
    rows: Sequence[_Row],
    vocabulary: Vocabulary,
    modalities: tuple[Modality, Modality],
    clustered: bool,
) -> Split:
    """One split: a row for each image and text, and one for an image without, whose
    caption is absent."""
    read = partial(_pixels, size=modalities[0].shape[-1])
    x, present, index = captioned(
        [bird.photo for bird, _ in rows], [texts for _, texts in rows], read, modalities, vocabulary
    )
    label = np.array([bird.cluster if clustered else bird.species for bird, _ in rows])[index]
    looks = [bird.facing for bird, _ in rows if bird.facing is not None]
    private = {"facing": {"image": np.array(looks)[index]}} if looks else {}
    return Split(x, modalities, present, {"cluster" if clustered else "class": label}, private)


def _pixels(photo: _Photo, size: int) -> np.ndarray:
    """The cropped photo, (3, size, size)."""
    image = decode(photo.content, photo.name, "RGB")
    if photo.bounds is None:
        return shrink(image, size)
    left, top, right, bottom = box = square(photo.bounds, image.size)
    if left >= right or top >= bottom:
        raise ValueError(
            f"bounding box {photo.bounds} lies outside {photo.name}, which is {image.width}×{image.height}; {_WHERE} again"
        )
    return shrink(image, size, box)


def _published(folder: Path, unpaired: bool, clustered: bool) -> list[_Bird]:
    """The images in the order of ``images.txt``; ``clustered`` asks where birds look."""
    place = folder / "CUB_200_2011"
    images = _listed(place / "images.txt", 1)
    tables = {name: _listed(place / f"{name}.txt", columns) for name, columns in _COLUMNS.items()}
    for name, table in tables.items():
        if table.keys() != images.keys():
            raise ValueError(
                f"{place / name}.txt has {len(table)} rows, expected one for each of the {len(images)} of images.txt; {_WHERE} again"
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
                f"{place}: image {key} has a label, split or bounding box that is no number ({error}); {_WHERE} again"
            ) from error
        file = _there(
            inside(place / "images", path),
            unpaired,
            f"{_WHERE} again, or pass unpaired=True to keep captions without an image",
        )
        text = _there(
            inside(folder / "text_c10", path).with_suffix(".txt"),
            unpaired,
            f"{_CAPTIONS_WHERE}, or pass unpaired=True to keep images without captions",
        )
        photo = None if file is None else _Photo(str(file), file, (x, y, width, height))
        look = None if looks is None else looks.get(key, -1)
        birds.append(
            _Bird(path, species - 1, train == 1, () if text is None else _lines(text), photo, look)
        )
    _check_unique(place / "images.txt", birds)
    return birds


def _listed(path: Path, columns: int) -> dict[str, list[str]]:
    """A published list: the number of an image, then so many columns."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {_WHERE} again")
    table = {}
    for number, line in enumerate(
        path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
    ):
        key, *values = line.split() or [""]
        if len(values) != columns:
            raise ValueError(
                f"{path}: line {number} is {line!r}, expected the number of an image and {columns} more; {_WHERE} again"
            )
        table[key] = values
    return table


def facing(path: Path) -> dict[str, int] | None:
    """By the number of an image, whether its bird looks left (0) or right (1), or is
    not seen to (−1): where its head is from its body. None without the file.

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
                f"{path}: line {number} is {line!r}, expected image, part, x, y and whether it is visible; {_WHERE} again"
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


def _from_table(folder: Path, unpaired: bool) -> list[_Bird]:
    """The images in the order of the table; without ``unpaired``, only the zip of those
    with captions is read."""
    photos = {
        name: content
        for archive in (PAIRED, UNCAPTIONED)[: 1 + unpaired]
        for name, content in _unzipped(folder / archive).items()
    }
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
        photo = None if content is None else _Photo(row["path"], content, None)
        birds.append(
            _Bird(
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


def _check_unique(path: Path, birds: Iterable[_Bird]) -> None:
    """An image that is listed twice might stand in two splits."""
    repeated = [name for name, count in Counter(bird.path for bird in birds).items() if count > 1]
    if repeated:
        raise ValueError(f"{path} lists {repeated[0]} more than once; fetch it again")
