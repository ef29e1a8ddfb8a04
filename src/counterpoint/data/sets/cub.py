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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.images import decode, shrink, square
from counterpoint.data.sets.compose import hold_out
from counterpoint.data.sets.cub_files import (
    CLUSTERS,
    TABLE,
    WHERE,
    Bird,
    Photo,
    from_table,
    published,
)
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.captioned import Captions, captioned, picked
from counterpoint.data.split import Split
from counterpoint.data.text import Vocabulary, warn_of_unknown

Classes = Literal["species", "clusters"]

_VAL_PER_CLASS = 3  # a tenth of the 30 training images that a species has

Row = tuple[Bird, tuple[str, ...]]
"""An image, and the captions that are used of it."""


@dataclass(frozen=True)
class CubOptions:
    """Options of ``cub``.

    Args:
        size: side of the image.
        length: words of a caption; longer ones are cut, shorter ones padded.
        min_count: how often the training captions must hold a word for it to have an
            id.
        captions: "one" fixes a caption for each image by the seed; "all" makes a row of
            each image and caption.
        unpaired: keep images without captions and captions without an image, too; the
            modality that lacks is marked absent.
        classes: "species", or "clusters" of them.
    """

    size: int = 32
    length: int = 32
    min_count: int = 3
    captions: Captions = "one"
    unpaired: bool = False
    classes: Classes = "species"


def cub(request: Request, options: CubOptions) -> Dataset:
    """Read photos ``image`` (3×size×size) and word ids ``caption`` (length); shared
    label ``class``, the number of the species from 0 on, or ``cluster``.

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

    The authors publish tensors, and not how they were made, so we chose three things:

    - CUBICC has 22 species, which are not named. We take all species of the eight
      names: 60 of the 200, 25 of which are warblers.
    - The splits are those above; theirs are 70 : 15 : 15.
    - A bird looks left where its head (the mean of beak, crown, forehead and eyes, as
      far as they are visible) is left of its body (back, belly, breast and tail). This
      is their rule as far as it is told. Where no part of one of them is visible, the
      label is unknown (−1). The points are those of
      ``CUB_200_2011/parts/part_locs.txt``, which the layout of one table has not;
      without them there is no ``facing``, and the notes say so.

    Raises:
        FileNotFoundError: a file is not there (with ``unpaired``, photos and captions
            of the published layout may lack).
        ValueError: an option out of range, a file that is corrupt or laid out
            otherwise, or a split without rows.
    """
    _check(options)
    folder = _folder(request.root)
    clustered = options.classes == "clusters"
    single = (folder / TABLE).is_file()
    birds = (
        from_table(folder, options.unpaired)
        if single
        else published(folder, options.unpaired, clustered)
    )
    divided = _divided(birds, options, request.seed)
    for part, rows in divided.items():
        if not rows:
            remedy = "" if options.unpaired else ", or unpaired=True"
            raise ValueError(
                f"{folder} gives the {part} split no row; give all images of a species{remedy}"
            )
    texts = (text for bird, _ in divided["train"] for text in bird.captions)
    vocabulary = Vocabulary.learn(texts, min_count=options.min_count)
    modalities = (
        Modality("image", (3, options.size, options.size), "laplace", 0.75),
        vocabulary.modality("caption", options.length),
    )
    splits = {
        part: _split(rows, vocabulary, modalities, clustered) for part, rows in divided.items()
    }
    captions = splits["val"].x["caption"][splits["val"].present["caption"]]
    warn_of_unknown(vocabulary, captions, "the validation captions of cub")
    notes = _notes(birds, divided, single, clustered)
    return Dataset("cub", modalities, splits["train"], splits["val"], splits["test"], notes)


def _check(options: CubOptions) -> None:
    """Check the options; raise a ValueError where one is out of range."""
    for option, least in (("size", 8), ("length", 1), ("min_count", 1)):
        value = getattr(options, option)
        if value < least:
            raise ValueError(f"{option} {value} of cub must be {least} or more")
    for option, choices in (("captions", get_args(Captions)), ("classes", get_args(Classes))):
        chosen = getattr(options, option)
        if chosen not in choices:
            raise ValueError(f"{option} {chosen!r} of cub must be one of {', '.join(choices)}")


def _folder(root: Path) -> Path:
    """The folder that holds either layout."""
    for folder in (root / "cub", root):
        if (folder / TABLE).is_file() or (folder / "CUB_200_2011" / "images.txt").is_file():
            return folder
    raise FileNotFoundError(
        f"neither CUB_200_2011/images.txt nor {TABLE} is in {root / 'cub'} or in {root}; {WHERE}"
    )


def _notes(
    birds: Sequence[Bird], divided: Mapping[str, Sequence[Row]], single: bool, clustered: bool
) -> dict[str, str]:
    """What readers of results must know."""
    species = {bird.path.partition("/")[0] for rows in divided.values() for bird, _ in rows}
    notes = {
        "source": "CUB-200-2011 with the captions of Reed et al. 2016",
        "crops": "bounding boxes stretched to squares beforehand"
        if single
        else "squares about the bounding boxes",
        "label/class": ", ".join(sorted(species)),
    }
    if clustered:
        notes["label/cluster"] = ", ".join(CLUSTERS)
        known = any(bird.facing is not None for bird in birds)
        notes["label/facing"] = (
            "left, right" if known else "unknown: CUB_200_2011/parts/part_locs.txt is not there"
        )
    return notes


def _divided(birds: Sequence[Bird], options: CubOptions, seed: int) -> dict[str, list[Row]]:
    """The rows of each split. Captions and splits are drawn before rows are left out,
    and do not depend on which are."""
    validates = _validating(birds)
    chosen: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
    captions = [bird.captions for bird in birds]
    drawn = picked(captions, options.captions, np.random.default_rng(seed))
    for bird, texts in zip(birds, drawn, strict=True):
        part = "test" if not bird.train else "val" if bird.path in validates else "train"
        usable = (any if options.unpaired else all)((bird.photo, texts))
        if usable and (part == "train" or options.classes == "species" or bird.cluster >= 0):
            chosen[part].append((bird, texts))
    return chosen


def _validating(birds: Iterable[Bird]) -> set[str]:
    """The training images that validate. Each species has a random stream of its own,
    so that they depend on nothing else."""
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
    rows: Sequence[Row],
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


def _pixels(photo: Photo, size: int) -> np.ndarray:
    """The cropped photo, (3, size, size)."""
    image = decode(photo.content, photo.name, "RGB")
    if photo.bounds is None:
        return shrink(image, size)
    left, top, right, bottom = box = square(photo.bounds, image.size)
    if left >= right or top >= bottom:
        raise ValueError(
            f"bounding box {photo.bounds} lies outside {photo.name}, which is {image.width}×{image.height}; {WHERE} again"
        )
    return shrink(image, size, box)


SOURCE = Source(
    "cub",
    "photos of birds and their captions, 3×32×32 and 32 word ids, some unpaired if asked; reads their files",
    CubOptions,
    cub,
)
