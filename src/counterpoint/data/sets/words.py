"""The English word of a row's digit as a third modality: characters, as MNIST-SVHN-Text
has them.

Sutter et al., "Multimodal Generative Learning Utilizing Jensen-Shannon-Divergence",
2020, https://arxiv.org/abs/2006.08242.

They write the word into 8 characters at a random place among blanks. We chose three
things:

- The alphabet is the blank and the 15 letters that the words have. Theirs has some 70
  signs, most of which never occur.
- A word stands at any place where it fits. Their code leaves the last character blank.
- A word stays at its place. Their code places it anew each time a row is read.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

ALPHABET = "·efghinorstuvwxz"
"""The characters in the order of their ids; the dot is the blank."""

_LENGTH = 8

_TEXT = Modality(
    "text", (_LENGTH,), "categorical", None, classes=len(ALPHABET), words=tuple(ALPHABET)
)

_IDS = np.array(
    [[ALPHABET.index(c) for c in word.ljust(_LENGTH, ALPHABET[0])] for word in WORDS], np.uint8
)

_LENGTHS = np.array([len(word) for word in WORDS])


def with_words(data: Dataset, seed: int = 0) -> Dataset:
    """Add a modality ``text`` (8,), which spells the digit of the shared label
    ``digit``: ids of :data:`ALPHABET`, uint8.

    Args:
        seed: of the places where words start. Each split draws its own, and nothing
            else depends on them.
    """
    modalities = (*data.modalities, _TEXT)
    parts = {}
    for i, (part, split) in enumerate(data.splits().items()):
        rng = np.random.default_rng((seed, i, 2020))  # a stream beside that of the pairs
        x = {**split.x, "text": spelled(split.shared_labels["digit"], rng)}
        parts[part] = replace(split, x=x, modalities=modalities)
    return replace(
        data,
        name=f"{data.name}-text",
        modalities=modalities,
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
    )


def spelled(digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Spell digits (N,) as ids uint8 (N, 8), each word at one of the places where it
    fits, all equally likely."""
    start = rng.integers(0, _LENGTH + 1 - _LENGTHS[digit])
    return np.take_along_axis(_IDS[digit], (np.arange(_LENGTH) - start[:, None]) % _LENGTH, 1)
