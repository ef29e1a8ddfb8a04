"""PolyMNIST and its relatives: MNIST digits over photos, M views of one class, prepared
once as memory-mapped files.

- ``polymnist``: Sutter, Daunhawer, Vogt, "Generalized Multimodal ELBO", 2021,
  https://arxiv.org/abs/2105.02470. 28×28; the digit, binarised at > 128, inverts the
  colours of a random crop of the view's own photo.
- ``translated-polymnist``: Daunhawer et al., "On the Limitations of Multimodal VAEs",
  2022, https://arxiv.org/abs/2110.04121. The digit is scaled by 0.75 and placed at
  random.
- ``polymnist-quadrant``: "Information-disentangled Multimodal VAE", 2025,
  https://arxiv.org/abs/2509.23548. 64×64; the digit, resized to half the canvas and
  binarised at > 16, stands in a uniformly random quadrant, independently per view; view
  0 paints it red, the last blue, those between invert.

Views are paired by class with an independent permutation per view. Train is
MNIST[:55000], paired several times; validation MNIST[55000:] and test the 10,000, once
each. Scaling is bilinear; it and the pure colours are choices of this library, which
the papers leave open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.sets.compose import (
    Paint,
    crops,
    paint,
    pair_by_class,
    place,
    quadrant_corners,
    quadrant_paints,
    random_corners,
    resize,
)
from counterpoint.data.sets.mnist import URL, download, has_mnist, mnist
from counterpoint.data.sets.textures import photos, texture
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.arrays import from_folder
from counterpoint.data.sources.files import (
    FolderWriter,
    check_files,
    new_folder,
    progress_bar,
    read_manifest,
)

BLOCK = 1024  # images made at a time


@dataclass(frozen=True)
class Family:
    """One member of the family.

    Args:
        size: side of the canvas unless asked otherwise.
        digit: side of the digit relative to the canvas.
        threshold: pixels above it belong to the digit.
        where: the digit fills the canvas, or stands anywhere, or in a quadrant.
    """

    size: int
    digit: float
    threshold: int
    where: str
    about: str

    def paints(self, views: int) -> tuple[Paint, ...]:
        inverted: Paint = "invert"
        return quadrant_paints(views) if self.where == "quadrant" else (inverted,) * views


FAMILY = {
    "polymnist": Family(
        28, 1.0, 128, "all", "MNIST over photos, 5 views 3×28×28, shared label digit"
    ),
    "translated-polymnist": Family(
        28, 0.75, 128, "anywhere", "PolyMNIST with the digit scaled by 0.75 and placed at random"
    ),
    "polymnist-quadrant": Family(
        64,
        0.5,
        16,
        "quadrant",
        "PolyMNIST with the digit in a random quadrant, 5 views 3×64×64, private label quadrant",
    ),
}

DEFAULTS: dict[str, int] = {"views": 5, "pairings": 4, "seed": 0}


def parameters(
    name: str, size: int | None, views: int | None, pairings: int | None, seed: int | None
) -> dict[str, int]:
    """Return all parameters of a set, checked; ``None`` takes the default.

    Raises:
        ValueError: a value out of range.
    """
    family = FAMILY[name]
    given = {"size": size, "views": views, "pairings": pairings, "seed": seed}
    chosen = {"size": family.size, **DEFAULTS} | {
        k: int(v) for k, v in given.items() if v is not None
    }
    for key, least in {"size": 8, "views": 1, "pairings": 1, "seed": 0}.items():
        if chosen[key] < least:
            raise ValueError(f"{key} {chosen[key]} of {name} must be {least} or more")
    if family.where == "quadrant" and chosen["size"] % 2:
        raise ValueError(f"size {chosen['size']} of {name} must be even, to be cut into quadrants")
    return chosen


def folder_name(name: str, chosen: dict[str, int]) -> str:
    """Name the folder of a prepared set by its name and what differs from the defaults,
    such as ``polymnist-quadrant-size32-views3``."""
    defaults = {"size": FAMILY[name].size, **DEFAULTS}
    changed = [f"{k}{v}" for k, v in chosen.items() if v != defaults[k]]
    return "-".join([name, *changed])


def prepare(
    name: str,
    root: Path,
    out: Path | None = None,
    *,
    size: int | None = None,
    views: int | None = None,
    pairings: int | None = None,
    seed: int | None = None,
    photo_folder: Path | None = None,
    url: str = URL,
    progress: bool = True,
) -> Path:
    """Make a set; see :func:`counterpoint.data.prepare`."""
    chosen = parameters(name, size, views, pairings, seed)
    target = out if out is not None else root / "prepared" / folder_name(name, chosen)
    pictures, backgrounds = _pictures(root, photo_folder, chosen)
    record = {**chosen, "backgrounds": backgrounds}
    if (target / "manifest.json").is_file():
        manifest = read_manifest(target)
        if manifest["name"] != name or manifest["parameters"] != record:
            raise FileExistsError(
                f"{target} holds {manifest['name']} with other parameters or photos; remove it or choose another out"
            )
        check_files(target, manifest)
        return target
    if not has_mnist(root):
        download(root, url)
    digits = mnist(root)
    modalities = [
        Modality(f"view{v}", (3, chosen["size"], chosen["size"]), "laplace", 0.75)
        for v in range(chosen["views"])
    ]
    total = sum(
        len(labels) * (chosen["pairings"] if part == "train" else 1)
        for part, (_, labels) in digits.items()
    ) * len(pictures)
    with new_folder(target) as folder, progress_bar(progress) as bar:
        task = bar.add_task(f"preparing {name}", total=total)
        writer = FolderWriter(folder)
        for i, (part, (images, labels)) in enumerate(digits.items()):
            _write_split(
                writer,
                FAMILY[name],
                part,
                images,
                labels,
                pictures,
                chosen,
                i,
                lambda made: bar.advance(task, made),
            )
        writer.manifest(name, record, modalities, {"digits": "MNIST", "backgrounds": backgrounds})
    return target


def _pictures(
    root: Path, photo_folder: Path | None, chosen: dict[str, int]
) -> tuple[list[np.ndarray], str]:
    """One background per view and a sentence about them: photos in order of name; views
    for which none is left get a texture of their own."""
    size = chosen["size"]
    views = chosen["views"]
    if photo_folder is None and (root / "polymnist_backgrounds").is_dir():
        photo_folder = root / "polymnist_backgrounds"
    if photo_folder is None:
        found = {}
        about = "synthesised textures (no photos given)"
    else:
        found = dict(list(photos(photo_folder, size).items())[:views])
        about = "photos " + ", ".join(found)
        if len(found) < views:
            about += f"; synthesised textures for view{len(found)} and later (only {len(found)} photos given)"
    return [
        *found.values(),
        *(texture(v, chosen["seed"], max(512, 4 * size)) for v in range(len(found), views)),
    ], about


def _write_split(
    writer: FolderWriter,
    family: Family,
    part: str,
    images: np.ndarray,
    labels: np.ndarray,
    pictures: list[np.ndarray],
    chosen: dict[str, int],
    number: int,
    made: Callable[[int], None],
) -> None:
    size = chosen["size"]
    views = len(pictures)
    digit, rows = pair_by_class(
        [labels] * views,
        chosen["pairings"] if part == "train" else 1,
        np.random.default_rng((chosen["seed"], number)),
    )
    writer.array(f"{part}/label/digit", [digit], digit.shape, np.int64)
    for view, (picture, how) in enumerate(zip(pictures, family.paints(views), strict=True)):
        # a stream per view, drawn for all rows at once: neither other views nor the block size
        # change the images
        rng = np.random.default_rng((chosen["seed"], number, view))
        side = round(size * family.digit)
        match family.where:
            case "quadrant":
                quadrant = rng.integers(0, 4, len(digit))
                corners = quadrant_corners(quadrant, size)
                writer.array(
                    f"{part}/label/quadrant/view{view}", [quadrant], quadrant.shape, np.int64
                )
            case "anywhere":
                corners = rng.integers(0, size - side + 1, (len(digit), 2))
            case _:
                corners = np.zeros((len(digit), 2), np.int64)
        at = random_corners(picture, size, len(digit), rng)
        blocks = _images(
            images, rows[view], corners, at, picture, side, family.threshold, size, how, made
        )
        writer.array(f"{part}/view{view}", blocks, (len(digit), 3, size, size), np.uint8)


def _images(
    images: np.ndarray,
    rows: np.ndarray,
    corners: np.ndarray,
    at: np.ndarray,
    picture: np.ndarray,
    side: int,
    threshold: int,
    size: int,
    how: Paint,
    made: Callable[[int], None],
) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK):
        now = slice(start, start + BLOCK)
        canvas = place(
            np.uint8(255) * (resize(images[rows[now]], side) > threshold), corners[now], size
        )
        block = paint(crops(picture, at[now], size), canvas, how)
        made(len(block))
        yield block


@dataclass(frozen=True)
class PolyMNISTOptions:
    """Options of a set of the PolyMNIST family, as it was prepared.

    Args:
        size: side of the canvas; by default 64 of ``polymnist-quadrant``, else 28.
        views: number of views; 5 by default.
        pairings: pairings of the training digits; 4 by default.
    """

    size: int | None = None
    views: int | None = None
    pairings: int | None = None


def open_prepared(request: Request, options: PolyMNISTOptions) -> Dataset:
    """Open a set that was prepared with these options, as memory maps.

    Raises:
        FileNotFoundError: it was not.
    """
    name = request.name
    chosen = parameters(name, options.size, options.views, options.pairings, request.seed)
    folder = request.root / "prepared" / folder_name(name, chosen)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{name} is not prepared in {folder}; run 'counterpoint data prepare {name}' with the same root and options"
        )
    return from_folder(folder, None, request.fractions, request.seed, verify=request.verify)


SOURCES = tuple(
    Source(
        name,
        f"{family.about}; prepared once",
        PolyMNISTOptions,
        open_prepared,
        frozenset({"missing", "verify"}),
    )
    for name, family in FAMILY.items()
)
