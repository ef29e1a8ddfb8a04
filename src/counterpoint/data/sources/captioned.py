"""Images of which something is said, once, several times or not at all: rows of
``image`` and ``caption``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar, cast

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.images import Pictures, stack
from counterpoint.data.split import Array
from counterpoint.data.text import Vocabulary

Captions = Literal["one", "all"]

Source = TypeVar("Source")


def picked(
    texts: Sequence[tuple[str, ...]], captions: Captions, rng: np.random.Generator
) -> list[tuple[str, ...]]:
    """Return all captions of each image, or one drawn at random. Each image takes one
    draw, whatever it has."""
    draws = [int(rng.random() * len(some)) for some in texts]
    return [
        some if captions == "all" else some[i : i + 1] for some, i in zip(texts, draws, strict=True)
    ]


def captioned(
    photos: Sequence[Source | None],
    texts: Sequence[tuple[str, ...]],
    read: Callable[[Source], np.ndarray],
    modalities: tuple[Modality, Modality],
    vocabulary: Vocabulary,
    *,
    lazy: bool = False,
) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """Make a row for each image and caption. An image without captions has one row,
    whose caption is absent.

    Args:
        photos: of each image; None where there is none.
        texts: of each image.
        read: makes the pixels of a photo.
        modalities: those of images and of captions.
        lazy: decode images when they are asked for.

    Returns:
        Values and presence by modality, and which image each row is of, (N,).
    """
    image, caption = modalities
    index = np.repeat(np.arange(len(texts)), [max(1, len(some)) for some in texts])
    pixels = (
        Pictures(read, [photos[i] for i in index.tolist()], image.shape)
        if lazy
        else stack(read, photos, image.shape)[0][index]
    )
    ids = vocabulary.encode([text for some in texts for text in some or ("",)], caption.shape[0])
    seen = np.array([photo is not None for photo in photos])
    said = np.array([len(some) > 0 for some in texts])
    return (
        {image.name: cast(Array, pixels), caption.name: ids},
        {image.name: seen[index], caption.name: said[index]},
        index,
    )
