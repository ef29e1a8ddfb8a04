"""Values of a modality in files of the user: read from a file of one value or a stack of
them, or from text; written as pictures or numbers."""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from counterpoint.core.files import write
from counterpoint.core.modality import Modality
from counterpoint.data import Vocabulary
from counterpoint.data.images import channels_first, decode
from counterpoint.data.sources.files import read_npy

if TYPE_CHECKING:
    from counterpoint.inference import Imputation

NUMBER_SUFFIXES = (".npy", ".json", ".csv", ".txt")
"""Endings of names of files of numbers."""


def read_values(modality: Modality, given: str) -> np.ndarray:
    """Read rows (N, *shape) of a modality from a file of one value or a stack of them,
    or, if its words are known, from a text.

    Raises:
        FileNotFoundError: no such file. ValueError: a file that cannot be read, or
            values of another shape.
    """
    path = Path(given)
    if modality.words and (path.suffix == ".txt" or path.suffix not in NUMBER_SUFFIXES):
        return _texts(modality, given)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} for modality {modality.name!r}")
    if path.suffix in NUMBER_SUFFIXES:
        values = _numbers(path, modality)
    elif len(modality.shape) == 3 and modality.unit:
        values = _image(path, modality)
    else:
        raise ValueError(
            f"cannot read {modality.name!r} from {path}; give .npy, .json, .csv or .txt"
        )
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{path} holds no numbers, as {modality.name!r} needs")
    rows = values[None] if values.shape == modality.shape else values
    if rows.shape[1:] != modality.shape:
        raise ValueError(
            f"{path} holds values of shape {values.shape}; modality {modality.name!r} has {modality.shape}, or a stack of them"
        )
    return modality.standardised(torch.from_numpy(rows).float()).numpy() if modality.units else rows


def _texts(modality: Modality, given: str) -> np.ndarray:
    """Ids of the lines of a text file, or of a text itself. A warning names unknown
    words."""
    if given.endswith(".txt") or os.path.isfile(given):
        try:
            lines = Path(given).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{given} is not UTF-8 ({error}); save it as that") from None
    else:
        lines = [given]
    empty = [number for number, line in enumerate(lines, 1) if not line.strip()]
    if empty or not lines:
        raise ValueError(
            f"{given or 'the text'} holds no text in line {[*empty, 1][0]}, as {modality.name!r} needs; give one a line"
        )
    vocabulary = Vocabulary(modality.words)
    ids = vocabulary.encode(lines, modality.shape[0])
    unknown = dict.fromkeys(word for line in lines for word in vocabulary.unknown(line))
    if unknown:
        warnings.warn(
            f"the model does not know {', '.join(unknown)}, which {modality.name!r} was given",
            stacklevel=2,
        )
    return ids


def _numbers(path: Path, modality: Modality) -> np.ndarray:
    """The array in a file of numbers; lines of text are rows."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return read_npy(file, path.stat().st_size)
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return np.asarray(json.loads(text))
        if path.suffix == ".csv" and {*text.partition("\n")[0].replace('"', "").split(",")} & {
            *modality.features
        }:
            return _columns(text, modality)
        return np.loadtxt(
            text.replace(",", " ").splitlines(),
            ndmin=2,
            dtype=np.int64 if modality.likelihood == "categorical" else np.float32,
        )
    except (ValueError, EOFError, RecursionError) as error:
        raise ValueError(f"{path} holds no numbers that can be read ({error})") from None


def _columns(text: str, modality: Modality) -> np.ndarray:
    """The columns of a table that have the names of the features, in their order."""
    header, *rows = (row for row in csv.reader(text.splitlines()) if row)
    lacking = [feature for feature in modality.features if feature not in header]
    if lacking:
        raise ValueError(
            f"it lacks {len(lacking)} features of {modality.name!r}, {lacking[0]!r} first"
        )
    places = [header.index(feature) for feature in modality.features]
    short = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if short is not None:
        raise ValueError(f"row {short} has another length than the header")
    return np.array([[float(row[place]) for place in places] for row in rows], np.float32)


def _image(path: Path, modality: Modality) -> np.ndarray:
    """An image file as (C, H, W) uint8, scaled to the size of the modality."""
    from PIL.Image import Resampling

    channels, height, width = modality.shape
    if channels not in (1, 3):
        raise ValueError(
            f"modality {modality.name!r} has {channels} channels, which no image file has; give .npy"
        )
    picture = decode(path, str(path), "L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Resampling.BICUBIC)
    return channels_first(picture).copy()


def write_values(values: Mapping[str, Tensor], modalities: Sequence[Modality], path: Path) -> Path:
    """Write values as a sheet of pictures or as numbers, whole or not at all."""
    known = {m.name: m for m in modalities}
    content = io.BytesIO()
    if path.suffix == ".png":
        from counterpoint.figures import sheet

        sheet(values, modalities).savefig(content, format="png", dpi=160, facecolor="white")
    elif path.suffix == ".npz":
        np.savez(content, **{name: plain(v, known[name]) for name, v in values.items()})  # type: ignore[arg-type]  # a stub of allow_pickle
    elif path.suffix == ".json":
        content.write(
            json.dumps(
                {name: plain(v, known[name]).tolist() for name, v in values.items()}
            ).encode()
        )
    elif path.suffix == ".csv":
        content.write(_table(values, known).encode())
    else:
        raise ValueError(
            f"cannot write {path}: end its name in .png for pictures, or in .npz, .json or .csv for numbers"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, content.getvalue())
    return path


def _table(values: Mapping[str, Tensor], modalities: Mapping[str, Modality]) -> str:
    """One vector modality as a table, under the names of its features if they are
    known."""
    name, *others = values
    if others or len(modalities[name].shape) != 1:
        raise ValueError(
            f"a .csv table holds one vector modality, not {', '.join(values)}; write .npz or .json (translate writes one alone by --to)"
        )
    content = io.StringIO()
    table = csv.writer(content, lineterminator="\n")
    table.writerows([modalities[name].features] if modalities[name].features else [])
    table.writerows(plain(values[name], modalities[name]).tolist())
    return content.getvalue()


def write_imputation(imputation: Imputation, modalities: Sequence[Modality], path: Path) -> Path:
    """Write an .npz of imputed values and their intervals, in the units in which they
    were measured, whole or not at all."""
    known = {m.name: m for m in modalities}
    measured = {
        "": imputation.mean,
        "lower/": imputation.lower,
        "upper/": imputation.upper,
        "samples/": imputation.samples,
    }
    unitless = {"probability/": imputation.probability, "missing/": imputation.missing}
    arrays: dict[str, Tensor] = {}
    for kind, values in measured.items():
        arrays |= {f"{kind}{name}": known[name].original(v) for name, v in values.items()}
    for kind, values in unitless.items():
        arrays |= {f"{kind}{name}": v for name, v in values.items()}
    content = io.BytesIO()
    np.savez(content, **{key: v.cpu().numpy() for key, v in arrays.items()})  # type: ignore[arg-type]  # a stub of allow_pickle
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, content.getvalue())
    return path


def plain(values: Tensor, modality: Modality) -> np.ndarray:
    """Decoder means as numbers: the most likely ids of a categorical modality, other
    values in the units in which they were measured."""
    array: np.ndarray = (
        (values.argmax(-1) if modality.likelihood == "categorical" else modality.original(values))
        .cpu()
        .numpy()
    )
    return array


def as_printed(values: Tensor, modality: Modality) -> list[Any]:
    """Decoder means to print: text if the words of a categorical modality are known,
    numbers otherwise."""
    numbers: list[Any] = plain(values, modality).tolist()
    return [modality.text(ids) for ids in numbers] if modality.words else numbers
