"""Folders of ``.npy`` files with a manifest, written beside and renamed, so that a
folder is either complete or not there."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np

from counterpoint.core import files
from counterpoint.core.documents import read_json
from counterpoint.core.files import beside
from counterpoint.core.modality import DISPLAY_FIELDS, Modality

if TYPE_CHECKING:
    from rich.progress import Progress

MANIFEST = "manifest.json"

SMALL = 1 << 24
"""Bytes of a file up to which its checksum is compared whenever it is opened."""


def default_root() -> Path:
    """Return where data sets live: ``$COUNTERPOINT_DATA``, or else
    ``~/.cache/counterpoint``."""
    given = os.environ.get("COUNTERPOINT_DATA")
    return Path(given) if given else Path.home() / ".cache" / "counterpoint"


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a folder to fill. It becomes ``path`` when the block ends well, and is
    removed when the block fails.

    Raises:
        FileExistsError: ``path`` is there already and holds something.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists already; remove it or choose another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = beside(path)
    part.mkdir()
    try:
        yield part
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


class FolderWriter:
    """Write arrays into a folder, block by block, and keep their sizes and checksums
    for the manifest.

    Blocks go through ordinary writes rather than a memory map: on a full disk a write
        raises ``OSError``, a memory map kills the process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, dict[str, Any]] = {}

    def array(
        self,
        key: str,
        blocks: Iterable[np.ndarray],
        shape: tuple[int, ...],
        dtype: np.dtype[Any] | type,
    ) -> None:
        """Write ``key.npy`` of the given shape from blocks of its rows."""
        path = self.folder / f"{key}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        total = hashlib.sha256()
        written = 0
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
            "fortran_order": False,
            "shape": shape,
        }
        with open(path, "w+b") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.seek(0)
            total.update(file.read())
            for block in blocks:
                data = np.ascontiguousarray(block, dtype=dtype)
                write(file, data)
                total.update(data.data)
                written += len(data)
            if written != shape[0]:
                raise ValueError(f"{key}: {written} rows were written, expected {shape[0]}")
            file.flush()
            os.fsync(file.fileno())
            self.files[f"{key}.npy"] = {"bytes": file.tell(), "sha256": total.hexdigest()}

    def manifest(
        self,
        name: str,
        parameters: Mapping[str, Any],
        modalities: Iterable[Modality],
        notes: Mapping[str, str],
    ) -> None:
        """Write the manifest, which completes the folder."""
        record = {
            "format": 1,
            "name": name,
            "parameters": dict(parameters),
            "modalities": [asdict(m) for m in modalities],
            "notes": dict(notes),
            "files": self.files,
        }
        files.write(self.folder / MANIFEST, json.dumps(record, indent=1).encode())


def progress_bar(shown: bool) -> Progress:
    """Make a bar that counts rows."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        disable=not shown,
    )


def write(file: BinaryIO, data: np.ndarray) -> None:
    """Write all bytes of a contiguous array into a file."""
    file.write(data.data)


def check_npy(file: IO[bytes], size: int) -> None:
    """Compare the header of an ``.npy`` file with what is there, before anything is
    allocated for it.

    Args:
        file: open at its beginning.
        size: bytes that it holds.

    Raises:
        ValueError: it is no such file, cut off, or of Python objects.
    """
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"its format is {version[0]}.{version[1]}, expected 1.0 or 2.0")
    shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    needed = math.prod(shape) * max(1, dtype.itemsize)
    there = size - file.tell()
    if min(shape, default=0) < 0 or needed > there:
        raise ValueError(
            f"its header claims {needed:,} bytes of shape {shape}, and {there:,} are there"
        )


def read_npy(file: IO[bytes], size: int) -> np.ndarray:
    """Read the array of an ``.npy`` file that is seekable.

    Raises:
        ValueError: as :func:`check_npy`.
    """
    check_npy(file, size)
    file.seek(0)
    array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file below a folder.

    Raises:
        ValueError: it leaves the folder, also by a symbolic link.
    """
    path = folder / name
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ValueError(
            f"{name!r} leaves the folder {folder}, for {target}; copy the file into it, and give its path from there"
        )
    return path


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a prepared folder.

    Raises:
        ValueError: it is not readable as one.
    """
    path = folder / MANIFEST
    try:
        record = read_json(path)
        complete = (
            record["format"] == 1
            and {"name", "parameters", "modalities", "notes", "files"} <= record.keys()
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a manifest of counterpoint ({error}); prepare the data set again"
        ) from error
    if not complete:
        raise ValueError(
            f"{path} is of another format; prepare the data set again with this version"
        )
    return dict(record)


def check_files(
    folder: Path,
    manifest: Mapping[str, Any],
    *,
    checksums: bool = False,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Compare the files of a prepared folder with its manifest: their sizes, and the
    contents of small files or, if asked, of all.

    Raises:
        FileNotFoundError: a file is gone.
        ValueError: a file has another size or content.
    """
    for name, facts in manifest["files"].items():
        path = inside(folder, name)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing from the prepared data set; remove {folder} and prepare it again"
            )
        if path.stat().st_size != facts["bytes"]:
            raise ValueError(
                f"{path} has {path.stat().st_size} bytes, expected {facts['bytes']}; remove {folder} and prepare it again"
            )
        if checksums or facts["bytes"] <= SMALL:
            if progress:
                progress(name)
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != facts["sha256"]:
                raise ValueError(
                    f"{path} has other contents than its manifest says; remove {folder} and prepare it again"
                )


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Compute one checksum for a prepared set, over its modalities and the checksums of
    its files. How values are shown does not count."""
    modalities = []
    for m in manifest["modalities"]:
        modalities.append(
            {k: v for k, v in m.items() if k not in DISPLAY_FIELDS and (k != "covariates" or v)}
        )
    record = {
        "modalities": modalities,
        "files": {name: facts["sha256"] for name, facts in manifest["files"].items()},
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
