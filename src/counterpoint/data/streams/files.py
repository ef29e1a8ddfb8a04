"""Find the shards of a folder, and the split of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from counterpoint.data.division import PART_NAMES
from counterpoint.data.streams.index import INDEX
from counterpoint.data.streams.shards import KINDS

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

_NAMED = re.compile(
    rf"({'|'.join(sorted(PART_NAMES, key=len, reverse=True))})(?![a-z])", re.IGNORECASE
)


def is_stream(path: Path) -> bool:
    """Whether a path is an index, a shard, or a folder of either."""
    if path.is_dir():
        return (path / INDEX).is_file() or next(_files(path), None) is not None
    return path.is_file() and (path.suffix in (".json", *KINDS) or path.name.endswith(_COMPRESSED))


def _files(folder: Path) -> Iterator[Path]:
    """Shards of a folder, compressed ones too."""
    return (
        p
        for p in folder.rglob("*")
        if p.name.endswith((*KINDS, *_COMPRESSED)) and not p.name.startswith(".") and p.is_file()
    )


def shards_of(path: Path) -> tuple[Path, list[str]]:
    """Find the folder, and its shards in order of name.

    Raises:
        FileNotFoundError: there is none.
        ValueError: they are compressed, or of two kinds.
    """
    if not path.exists():
        raise FileNotFoundError(f"no folder of shards {path}")
    files = [path] if path.is_file() else sorted(_files(path))
    folder = path.parent if path.is_file() else path
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no shard; expected files that end in {' or '.join(KINDS)}"
        )
    for file in files:
        if file.name.endswith(_COMPRESSED):
            raise ValueError(
                f"{file} is compressed, so that it is read from its beginning only; decompress it (images in it are compressed already)"
            )
        if file.suffix != files[0].suffix:
            raise ValueError(
                f"{folder} holds both {files[0].name} and {file.name}; put shards of each kind in a folder of their own"
            )
    return folder, [file.relative_to(folder).as_posix() for file in files]


def parts_of(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """Return the split of each shard.

    Raises:
        ValueError: some are named and others are not, or none is of train.
    """
    parts = {file: _part(file) for file in files}
    named = {part for part in parts.values() if part}
    stray = [file for file, part in parts.items() if part is None]
    if named and stray:
        raise ValueError(
            f"{folder / stray[0]} belongs to no split, and other shards do; begin its name, or its folder's, with train, val or test"
        )
    if named and "train" not in named:
        raise ValueError(
            f"{folder} has shards of {' and '.join(sorted(named))} but none of train; name some so, or none at all"
        )
    return {file: part or "train" for file, part in parts.items()}


def _part(file: str) -> str | None:
    """The split that a shard, or the first folder of its path, is named for."""
    for name in Path(file).parts:
        if found := _NAMED.match(name):
            return PART_NAMES[found[1].lower()]
    return None
