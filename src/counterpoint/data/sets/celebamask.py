"""``celebamask``: photos of faces, masks of their parts, and attributes.

CelebAMask-HQ (Lee et al., "MaskGAN: Towards Diverse and Interactive Facial Image
Manipulation", 2020, https://arxiv.org/abs/1907.11922). One mask for all parts but the
skin, and 18 of the 40 attributes, as in "Score-Based Multimodal Autoencoder" (Wesego
and Rooshenas, 2023, https://arxiv.org/abs/2305.15708), which has 128×128 pixels. The
splits and how masks shrink are choices of this library.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.images import decode, shrink, stack
from counterpoint.data.source import Request, Source
from counterpoint.data.split import Split

ATTRIBUTES = {
    4: "Bald",
    5: "Bangs",
    8: "Black_Hair",
    9: "Blond_Hair",
    11: "Brown_Hair",
    12: "Bushy_Eyebrows",
    15: "Eyeglasses",
    17: "Gray_Hair",
    18: "Heavy_Makeup",
    20: "Male",
    21: "Mouth_Slightly_Open",
    22: "Mustache",
    26: "Pale_Skin",
    28: "Receding_Hairline",
    31: "Smiling",
    32: "Straight_Hair",
    33: "Wavy_Hair",
    35: "Wearing_Hat",
}
"""The attributes that are kept: place among the 40, from 0 on, and published name."""

ANNOTATION = "CelebAMask-HQ-attribute-anno.txt"
IMAGES = "CelebA-HQ-img"
MASKS = "CelebAMask-HQ-mask-anno"

_COLUMNS = 40

_PER_FOLDER = 2000

_WHERE = "fetch https://github.com/switchablenorms/CelebAMask-HQ"


@dataclass(frozen=True)
class CelebAMaskOptions:
    """Options of ``celebamask``.

    Args:
        size: side of the image and the mask.
        incomplete: keep the images of the attribute file that lack their photo or all
            parts of their mask, marked absent.
    """

    size: int = 32
    incomplete: bool = False


def celebamask(request: Request, options: CelebAMaskOptions) -> Dataset:
    """Read photos ``image`` (3×size×size), masks ``mask`` (1×size×size, 0 or 1) and
    ``attributes`` (18, 0 or 1), of which the latter two are Bernoulli.

    The mask covers every part but the skin: brows, eyes, eyeglasses, ears, nose, mouth,
    lips, neck, cloth, hair, hat, and jewellery. A pixel is 1 where they cover at least
    half of it. The attributes are Bald, Bangs, Black_Hair, Blond_Hair, Brown_Hair,
    Bushy_Eyebrows, Eyeglasses, Gray_Hair, Heavy_Makeup, Male, Mouth_Slightly_Open,
    Mustache, Pale_Skin, Receding_Hairline, Smiling, Straight_Hair, Wavy_Hair and
    Wearing_Hat. There are no labels.

    The published files are in ``root/celebamask``, ``root/CelebAMask-HQ`` or ``root``:
    ``CelebAMask-HQ-attribute-anno.txt``, ``CelebA-HQ-img/I.jpg`` and
    ``CelebAMask-HQ-mask-anno/J/IIIII_PART.png`` for image I, where J is I // 2000.

    In order of number, the last tenth of the images is test and the tenth before it
    val. We chose this division: the authors publish another, and papers that use the
    set differ.

    Raises:
        FileNotFoundError: a file is not there; without ``incomplete``, a photo, or
            every part of a mask.
        ValueError: a size that is too small, or a file that is corrupt or laid out
            otherwise.
    """
    root = request.root
    size = options.size
    incomplete = options.incomplete
    if size < 8:
        raise ValueError(f"size {size} of celebamask must be 8 or more")
    places = (root / "celebamask", root / "CelebAMask-HQ", root)
    folder = next((place for place in places if (place / ANNOTATION).is_file()), None)
    if folder is None:
        raise FileNotFoundError(
            f"{ANNOTATION} is in none of {', '.join(map(str, places))}; {_WHERE}"
        )
    attributes = _attributes(folder / ANNOTATION)
    photos = _photos(folder, attributes, incomplete)
    parts = _parts(folder, attributes, incomplete)
    modalities = (
        Modality("image", (3, size, size), "laplace", 0.75),
        Modality("mask", (1, size, size), "bernoulli", None),
        Modality("attributes", (len(ATTRIBUTES),), "bernoulli", None),
    )
    image, seen = stack(partial(_photo, size=size), photos, modalities[0].shape)
    mask, masked = stack(partial(_mask, size=size), parts, modalities[1].shape)
    values = np.array([*attributes.values()], np.uint8)
    whole = Split(
        {"image": image, "mask": mask, "attributes": values},
        modalities,
        {"image": seen, "mask": masked},
    )
    tenth = len(whole) // 10
    train, val, test = (
        whole.take(slice(*cut)) for cut in ((0, -2 * tenth), (-2 * tenth, -tenth), (-tenth, None))
    )
    return Dataset(
        "celebamask",
        modalities,
        train,
        val,
        test,
        {"source": "CelebAMask-HQ", "attributes": ", ".join(ATTRIBUTES.values())},
    )


def _attributes(path: Path) -> dict[int, list[bool]]:
    """The kept attributes of each image, in order of its number.

    The file has the number of images, the names of the 40 attributes, then a row an
    image: ``I.jpg`` and 40 values, −1 or 1.
    """
    count, names, *rows = [*path.read_text(encoding="utf-8", errors="replace").splitlines(), "", ""]
    columns = names.split()
    if len(columns) != _COLUMNS or any(
        columns[place] != name for place, name in ATTRIBUTES.items()
    ):
        raise ValueError(
            f"{path}: line 2 does not name the {_COLUMNS} attributes of CelebA in their order; {_WHERE} again"
        )
    kept = {}
    for number, line in enumerate(filter(str.strip, rows), 3):
        name, *values = line.split()
        stem, _, suffix = name.partition(".")
        if (
            not stem.isdecimal()
            or suffix != "jpg"
            or len(values) != _COLUMNS
            or not {*values} <= {"1", "-1"}
        ):
            raise ValueError(
                f"{path}: line {number} is not I.jpg and {_COLUMNS} values of -1 or 1; {_WHERE} again"
            )
        kept[int(stem)] = [values[place] == "1" for place in ATTRIBUTES]
    if count.strip() != str(len(kept)):
        raise ValueError(
            f"{path} says {count.strip()!r} images and has rows of {len(kept)}; {_WHERE} again"
        )
    if len(kept) < 10:
        raise ValueError(
            f"{path} has {len(kept)} images, expected 10 or more to be divided; {_WHERE} again"
        )
    return dict(sorted(kept.items()))


def _photos(folder: Path, numbers: dict[int, list[bool]], incomplete: bool) -> list[Path | None]:
    """The photo of each image, None where it lacks."""
    paths = [folder / IMAGES / f"{number}.jpg" for number in numbers]
    photos = [path if path.is_file() else None for path in paths]
    if None in photos and not incomplete:
        raise FileNotFoundError(
            f"{paths[photos.index(None)]} is missing, the first of {photos.count(None)}; {_WHERE} again, or pass incomplete=True"
        )
    return photos


def _parts(
    folder: Path, numbers: dict[int, list[bool]], incomplete: bool
) -> list[list[Path] | None]:
    """The parts of each image's mask, None where none is there."""
    by_number: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((folder / MASKS).glob("*/*_*.png")):
        by_number[f"{path.parent.name}/{path.name.partition('_')[0]}"].append(path)
    keys = [f"{number // _PER_FOLDER}/{number:05d}" for number in numbers]
    parts = [by_number.get(key) for key in keys]
    if None in parts and not incomplete:
        raise FileNotFoundError(
            f"{folder / MASKS / keys[parts.index(None)]}_*.png: no part of this mask is there, the first of {parts.count(None)}; "
            f"{_WHERE} again, or pass incomplete=True"
        )
    return parts


def _photo(path: Path, size: int) -> np.ndarray:
    return shrink(decode(path, str(path), "RGB"), size)


def _mask(parts: list[Path], size: int) -> np.ndarray:
    """Where parts except the skin cover at least half a pixel: 0 or 255, (1, size,
    size)."""
    from PIL.Image import Resampling, fromarray

    drawn = {
        path: np.asarray(decode(path, str(path), "L")) > 127
        for path in parts
        if not path.stem.endswith("_skin")
    }
    extents = {part.shape for part in drawn.values()}
    if len(extents) > 1:
        raise ValueError(
            f"{next(iter(drawn))} and the other parts of its mask differ in size; {_WHERE} again"
        )
    if not drawn:
        return np.zeros((1, size, size), np.uint8)
    covered = np.logical_or.reduce([*drawn.values()]).astype(np.uint8)
    union = fromarray(covered * np.uint8(255))
    return np.where(
        np.asarray(union.resize((size, size), Resampling.BOX))[None] > 127, 255, 0
    ).astype(np.uint8)


SOURCE = Source(
    "celebamask",
    "CelebAMask-HQ's faces, masks and 18 attributes, 3×32×32, 1×32×32 and 18; reads their files",
    CelebAMaskOptions,
    celebamask,
)
