"""Arrays in files: an ``.npz`` file, or a folder of ``.npy`` files.

Both name their arrays as a mapping does (:mod:`counterpoint.data.sources.flat`). With
splits, the same names stand below ``train/``, ``val/`` (or ``valid/``, ``validation/``,
``dev/``) and ``test/``. A val or test that is not there is held out from train.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.core.containers import given
from counterpoint.core.modality import Modality
from counterpoint.data.ambiguity import AS_IT_IS, ReadOptions
from counterpoint.data.dataset import Dataset
from counterpoint.data.division import (
    PART_NAMES,
    Flat,
    Fractions,
    divided_arrays,
    named_parts,
    with_all_parts,
)
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.files import (
    MANIFEST,
    check_files,
    check_npy,
    manifest_digest,
    read_manifest,
    read_npy,
)
from counterpoint.data.sources.flat import from_flat
from counterpoint.data.split import Array


def from_npz(
    path: Path,
    modalities: Sequence[Modality] | None,
    fractions: Fractions,
    seed: int,
    *,
    options: ReadOptions = AS_IT_IS,
) -> Dataset:
    """Read an ``.npz`` file into memory."""
    flat = read_npz(path)
    heads = dict.fromkeys(key.partition("/")[0] for key in flat if "/" in key)
    named = [head for head in heads if head in PART_NAMES]
    if not named:
        parts = divided_arrays(flat, fractions, seed)
        return from_flat(path.stem, parts, modalities, options=options)
    below = tuple(f"{head}/" for head in named)
    _refuse_stray(path, [key for key in flat if not key.startswith(below)])
    nested = {part: _below(flat, head) for part, head in named_parts(path, named).items()}
    parts, held = with_all_parts(path, nested, fractions, seed)
    return from_flat(path.stem, parts, modalities, held, options=options)


def read_npz(path: Path) -> Flat:
    """The arrays of an ``.npz`` file, by name.

    Raises:
        ValueError: it is none.
        TypeError: an array that would have to be unpickled.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is truncated or not an .npz file; write it again with numpy.savez"
        )
    with zipfile.ZipFile(path) as archive:
        return {
            info.filename.removesuffix(".npy"): _read(archive, info, path)
            for info in archive.infolist()
            if not info.is_dir()
        }


def _below(flat: Flat, head: str) -> Flat:
    """The arrays whose names begin with ``head/``, without it."""
    own = [key for key in flat if key.startswith(f"{head}/")]
    return {key.removeprefix(f"{head}/"): flat[key] for key in own}


def from_folder(
    folder: Path,
    modalities: Sequence[Modality] | None,
    fractions: Fractions,
    seed: int,
    *,
    verify: bool = False,
    options: ReadOptions = AS_IT_IS,
) -> Dataset:
    """Open a folder, whose ``.npy`` files stay on disk as memory maps.

    Without sub-folders train, val and test, they are divided and read into memory.
    """
    manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
    if manifest is not None:
        check_files(folder, manifest, checksums=verify)
        modalities = modalities or [
            Modality(**{**m, "shape": tuple(m["shape"])}) for m in manifest["modalities"]
        ]
    elif verify:
        raise ValueError(f"{folder} has no {MANIFEST} to verify against; leave verify out")
    named = [head for head in PART_NAMES if (folder / head).is_dir()]
    held = dict[str, str]()
    if named:
        _refuse_stray(folder, sorted(p.name for p in folder.glob("*.npy")))
        opened = {
            part: _open_folder(folder / head) for part, head in named_parts(folder, named).items()
        }
        parts, held = with_all_parts(folder, opened, fractions, seed)
    else:
        parts = divided_arrays(_open_folder(folder), fractions, seed)
    if manifest is None:
        return from_flat(folder.name, parts, modalities, held, options=options)
    return from_flat(
        manifest["name"],
        parts,
        modalities,
        manifest["notes"],
        manifest_digest(manifest),
        options=options,
    )


def _array(key: str, value: Any) -> Array:
    return given(key, value).values


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Array:
    key = info.filename.removesuffix(".npy")
    try:
        with archive.open(info) as file:
            return _array(key, read_npy(file, info.file_size))
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path}: array {key!r} is corrupt ({error}); write the file again"
        ) from error
    except (ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        if "object" in str(error).lower():
            raise TypeError(
                f"{path}: array {key!r} holds Python objects, which are never unpickled; save it with a numeric dtype"
            ) from error
        raise ValueError(
            f"{path}: array {key!r} cannot be read ({' '.join(str(error).split())}); write the file again"
        ) from error


def _open_folder(folder: Path) -> Flat:
    flat = {}
    for path in sorted(folder.rglob("*.npy")):
        key = path.relative_to(folder).with_suffix("").as_posix()
        try:
            with path.open("rb") as file:
                check_npy(file, path.stat().st_size)
            flat[key] = _array(key, np.load(path, mmap_mode="r", allow_pickle=False))
        except (ValueError, EOFError) as error:
            if "object" in str(error).lower():
                raise TypeError(
                    f"{path} holds Python objects, which are never unpickled; save it with a numeric dtype"
                ) from error
            raise ValueError(
                f"{path} is truncated or not an .npy file ({error}); write it again with numpy.save"
            ) from error
    if not any("/" not in key for key in flat):
        raise FileNotFoundError(
            f"{folder} holds no .npy file of values; expected one per modality, e.g. {folder / 'image.npy'}"
        )
    return flat


def _refuse_stray(where: Path, stray: Sequence[str]) -> None:
    if stray:
        raise ValueError(
            f"{where}: {stray[0]!r} stands beside train, val and test; move it into them"
        )


def open_arrays(request: Request, options: ReadOptions) -> Dataset:
    """Open an ``.npz`` file or a folder of ``.npy`` files."""
    common = (request.records, request.fractions, request.seed)
    if request.path.is_dir():
        return from_folder(request.path, *common, verify=request.verify, options=options)
    return from_npz(request.path, *common, options=options)


def is_arrays(path: Path) -> bool:
    """Whether a path is a folder or an ``.npz`` file."""
    return path.is_dir() or (path.suffix == ".npz" and path.is_file())


SOURCE = Source(
    "arrays",
    "a folder of .npy files, or an .npz file",
    ReadOptions,
    open_arrays,
    frozenset({"missing", "fractions", "modalities", "verify"}),
    recognises=is_arrays,
    infers=True,
)
