"""Values of a modality in files of the user's: read from one that holds a value or a stack of them, written as pictures or numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..files import write
from ..types import Modality

if TYPE_CHECKING:
    from ..inference import Imputation

NUMBERS = (".npy", ".json", ".csv", ".txt")
"""Names of files of numbers end so."""


def read_values(modality: Modality, path: Path) -> np.ndarray:
    """Rows (N, *shape) of a modality from a file with one value or a stack of them.

    Raises:
        FileNotFoundError: no such file. ValueError: a file that cannot be read, or values of another shape.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} for modality {modality.name!r}")
    if path.suffix in NUMBERS:
        values = _numbers(path, modality)
    elif len(modality.shape) == 3 and modality.unit:
        values = _image(path, modality)
    else:
        raise ValueError(f"cannot read {modality.name!r} from {path}; give .npy, .json, .csv or .txt")
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{path} holds no numbers, as {modality.name!r} needs")
    rows = values[None] if values.shape == modality.shape else values
    if rows.shape[1:] != modality.shape:
        raise ValueError(
            f"{path} holds values of shape {values.shape}; modality {modality.name!r} has {modality.shape}, or a stack of them"
        )
    return rows


def _numbers(path: Path, modality: Modality) -> np.ndarray:
    """The array in a file of numbers; lines of text are rows."""
    try:
        if path.suffix == ".npy":
            array: np.ndarray = np.load(path, allow_pickle=False)
            return array
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return np.asarray(json.loads(text))
        return np.loadtxt(
            text.replace(",", " ").splitlines(), ndmin=2, dtype=np.int64 if modality.likelihood == "categorical" else np.float32
        )
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} holds no numbers that can be read ({error})") from None


def _image(path: Path, modality: Modality) -> np.ndarray:
    """An image file as (C, H, W) uint8, scaled to the size of the modality."""
    from PIL import Image, UnidentifiedImageError

    channels, height, width = modality.shape
    if channels not in (1, 3):
        raise ValueError(f"modality {modality.name!r} has {channels} channels, which no image file has; give .npy")
    try:
        with Image.open(path) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError:
        raise ValueError(f"{path} is no image that can be read; give PNG, JPEG or .npy") from None
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1).copy()


def write_values(values: Mapping[str, Tensor], modalities: Sequence[Modality], path: Path) -> Path:
    """Write values as a sheet of pictures or as numbers, whole or not at all."""
    known = {m.name: m for m in modalities}
    content = io.BytesIO()
    if path.suffix == ".png":
        from ..report.figures import sheet

        sheet(values, modalities).savefig(content, format="png", dpi=160, facecolor="white")
    elif path.suffix == ".npz":
        np.savez(content, **{name: plain(v, known[name]) for name, v in values.items()})  # type: ignore[arg-type]  # a stub of allow_pickle
    elif path.suffix == ".json":
        content.write(json.dumps({name: plain(v, known[name]).tolist() for name, v in values.items()}).encode())
    else:
        raise ValueError(f"cannot write {path}: end its name in .png for pictures, or in .npz or .json for numbers")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, content.getvalue())
    return path


def write_imputation(found: Imputation, path: Path) -> Path:
    """Write an .npz of what was filled and how sure it is, whole or not at all."""
    parts = {"": found.mean, "lower/": found.lower, "upper/": found.upper, "probability/": found.probability, "missing/": found.missing}
    arrays = {f"{kind}{name}": v.cpu().numpy() for kind, by in (parts | {"samples/": found.samples}).items() for name, v in by.items()}
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # a stub of allow_pickle
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, content.getvalue())
    return path


def plain(values: Tensor, modality: Modality) -> np.ndarray:
    """Decoder means as numbers: the likeliest ids of a categorical modality."""
    array: np.ndarray = (values.argmax(-1) if modality.likelihood == "categorical" else values).cpu().numpy()
    return array


def printed(values: Tensor, modality: Modality) -> list[Any]:
    """Decoder means as they are printed: text where the words of a categorical modality are known, numbers otherwise."""
    numbers: list[Any] = plain(values, modality).tolist()
    return [modality.text(ids) for ids in numbers] if modality.words else numbers
