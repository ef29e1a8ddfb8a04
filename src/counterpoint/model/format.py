"""Format of a saved model: ``config.json`` and ``model.safetensors``.

``config.json`` has the checksum of its weights, so that its own rename decides which
model the folder holds. New weights are written first, as
``model-CHECKSUM.safetensors``, and get their final name after it; both names are read.
A process that is killed at any point leaves the former model or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from counterpoint.core.files import replacing

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SAFETENSORS_PARTS = ".tmp??????"
"""Unfinished files of safetensors, which writes beside and renames."""


def checksum(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of the file of weights that ``keep`` writes."""
    from safetensors.torch import save

    return hashlib.sha256(save(dict(weights))).hexdigest()


def keep(folder: Path, record: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write a model. The folder keeps its former model until the new one is complete.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    from safetensors.torch import save_file

    known = checksum(weights)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(folder / _before(known)) as part, _errors():
            save_file(dict(weights), part)
        with replacing(folder / CONFIG) as part:
            part.write_text(json.dumps({**record, "weights": known}, indent=2) + "\n")
    finally:
        settle(folder)


def settle(folder: Path) -> None:
    """Finish a call of ``keep`` that failed or was killed: weights that ``config.json``
    names get their final name, others are removed."""
    named_now = folder / _before(checksum_in(folder) or "")
    if named_now.is_file():
        os.replace(named_now, folder / WEIGHTS)
    for left in (*folder.glob(_before("*")), *folder.glob(SAFETENSORS_PARTS)):
        left.unlink(missing_ok=True)


def checksum_in(folder: Path) -> str | None:
    """The checksum of the weights of a folder's model; None without a readable model."""
    try:
        return named(json.loads((folder / CONFIG).read_text()))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def named(record: Mapping[str, Any]) -> str:
    """The checksum of weights in a record.

    Raises:
        KeyError, TypeError: there is none.
    """
    known = record["weights"]
    if not isinstance(known, str) or not re.fullmatch("[0-9a-f]{64}", known):
        raise TypeError(f"weights {known!r} are no checksum")
    return known


def weights_file(folder: Path, known: str) -> Path:
    """The path of the weights of a checksum.

    Raises:
        FileNotFoundError: there is no file of weights.
    """
    path = folder / _before(known)
    if not path.is_file():
        path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {WEIGHTS}; give a run folder or one written by save_pretrained"
        )
    return path


def read_weights(folder: Path, known: str) -> dict[str, Tensor]:
    """Read the weights of a checksum.

    Raises:
        FileNotFoundError: there is no file of weights.
        ValueError: the file is damaged, or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_file(folder, known)
    with path.open("rb") as file:
        same = hashlib.file_digest(file, "sha256").hexdigest() == known
    try:
        if same:
            return load_file(path)
        raise refused(path, "its checksum is another")
    except SafetensorError as error:
        raise refused(path, str(error)) from error


def refused(path: Path, reason: str) -> ValueError:
    """The error for weights that do not fit."""
    reason = textwrap.shorten(reason, 160)
    return ValueError(
        f"{path} is damaged, of another model or of another version ({reason}); restore it or train again"
    )


def _before(known: str) -> str:
    """The name of weights before ``config.json`` names them."""
    return f"model-{known[:16]}.safetensors"


@contextmanager
def _errors() -> Iterator[None]:
    """Raise errors of the system that safetensors wraps as ``OSError``."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = next(
            (n for n in (errno.ENOSPC, errno.EDQUOT, errno.EIO) if f"os error {n})" in str(error)),
            errno.EIO,
        )
        raise OSError(number, os.strerror(number)) from error
