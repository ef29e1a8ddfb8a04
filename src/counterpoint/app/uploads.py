"""Values of a visitor's own: decoded by the reader of the command line, from a
temporary folder that is removed at once."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from counterpoint.core.modality import Modality
from counterpoint.data import Vocabulary

Reader = Callable[[Modality, str], np.ndarray]
"""Reads rows of a modality from a file, as :func:`counterpoint.cli.values.read_values`."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".npy", ".json", ".csv", ".txt")


def read_uploads(
    read: Reader, modalities: Mapping[str, Modality], given: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read what a visitor gives, by modality: ``{"text": TEXT}``, or ``{"name": FILE,
    "data": BASE64}``.

    A text goes through a file, too, so that the reader never takes it for a path.

    Returns:
        values: one row (1, *shape) by modality.
        names: by modality the text or the name of the file.

    Raises:
        ValueError: an unknown modality or file type, a file that can't be read, more
            than one row, or words that the model does not know.
    """
    values = {}
    names = {}
    for name, entry in given.items():
        if name not in modalities or not isinstance(entry, dict):
            raise ValueError(f"unknown modality {name!r}; choose one of {', '.join(modalities)}")
        label, suffix, content = _content(modalities[name], entry)
        try:
            with TemporaryDirectory(prefix="counterpoint-app-") as folder:
                path = Path(folder) / f"upload{suffix}"
                path.write_bytes(content)
                values[name] = read(modalities[name], str(path))
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), label)) from None
        if len(values[name]) != 1:
            raise ValueError(f"{label} holds {len(values[name])} rows of {name!r}; give one")
        names[name] = label
    return values, names


def _content(modality: Modality, entry: Mapping[str, Any]) -> tuple[str, str, bytes]:
    """What the visitor calls it, the ending of its name, and its bytes."""
    text = entry.get("text")
    if isinstance(text, str):
        if not modality.words:
            raise ValueError(f"{modality.name!r} is no text; give a file")
        if not text.strip():
            raise ValueError(f"the text of {modality.name!r} is empty; type some words")
        unknown = Vocabulary(modality.words).unknown(text)
        if unknown:
            raise ValueError(f"the model does not know {', '.join(dict.fromkeys(unknown))}")
        return text, ".txt", " ".join(text.split()).encode()
    name = Path(str(entry.get("name", ""))).name
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{name or 'the upload'} must end in {', '.join(SUFFIXES)}")
    try:
        return name, suffix, base64.b64decode(str(entry.get("data", "")), validate=True)
    except binascii.Error:
        raise ValueError(f"{name} did not arrive whole; choose it again") from None
