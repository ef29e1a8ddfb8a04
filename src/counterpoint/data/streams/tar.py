"""Read tar archives as webdataset has them, chunk by chunk."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

from counterpoint.data.streams.shard import Broken, Cells, Shard, Survey, one_line

CHUNK_ROWS, CHUNK_BYTES = 1024, 1 << 22
"""A chunk of a tar ends with the row that reaches either."""

NAMED = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"), "image"),
    "txt": "text",
    "npy": "array",
    "cls": "class",
}
"""What members that have nothing but an extension are called. ``KEY.photo.jpg`` is
called photo, and the fields of ``KEY.json`` as they are."""

_PICKLED = ("pyd", "pkl", "pickle", "pt", "pth")
_FIELDS = (
    "\0"  # under it stands why a row's JSON could not be read, for all fields that the row lacks
)


class Tar(Shard):
    """Read a tar archive that is not compressed."""

    def survey(self) -> Survey:
        chunks = _Chunks()
        columns: dict[str, str] = {}
        examples: dict[str, str] = {}  # by extension, the first member that has it
        why = None
        with self.path.open("rb") as file:
            try:
                for member, key, extension in _members(file):
                    chunks.add(member.offset, key)
                    columns.setdefault(*_column(extension))
                    examples.setdefault(extension, member.name)
            except _EndsEarly as error:
                why = f"ends early, in row {chunks.give_up()} ({error}); write it again"
        found = chunks.closed()
        if not found:
            raise ValueError(why or "holds no row; expected members KEY.EXTENSION")
        _check_keys(examples, sum(count for _, count in found))
        return Survey(found, columns, why)

    def cells(self, place: int, rows: int, names: Sequence[str] | None = None) -> dict[str, Cells]:
        fields: list[dict[str, Any]] = []
        key = None
        with self.path.open("rb") as file:
            file.seek(place)
            try:
                for member, this, extension in _members(file):
                    if this != key:
                        if len(fields) == rows:
                            break
                        fields.append({})
                        key = this
                    file.seek(member.offset_data)
                    for name, value in _values(extension, file.read(member.size), names):
                        twice = f"two members are called {name!r} (the key of a row, {key!r}, ends at the first dot of a member's name)"
                        fields[-1][name] = Broken(twice) if name in fields[-1] else value
            except _EndsEarly as error:
                raise ValueError(f"ends early ({error}); write it again") from None
        if len(fields) != rows:
            raise ValueError(
                f"{len(fields)} rows follow byte {place}, and {rows} did when it was indexed; index again"
            )
        known = dict.fromkeys(name for row in fields for name in row if name != _FIELDS)
        columns = {}
        for name in known if names is None else names:
            columns[name] = Cells.of([row.get(name, row.get(_FIELDS)) for row in fields])
        return columns


class _Chunks:
    """The chunks of an archive, from its members in order."""

    def __init__(self) -> None:
        self.chunks: list[tuple[int, int]] = []
        self.key: str | None = None
        self.complete = 0  # rows before the last one that began
        self.place = self.rows = 0  # where the open chunk begins, and its rows

    def add(self, offset: int, key: str) -> None:
        """Add a member of the row ``key``, which begins at a byte."""
        if key == self.key:
            return
        self.complete += self.key is not None
        self.key = key
        if self.rows >= CHUNK_ROWS or offset - self.place >= CHUNK_BYTES:
            self.chunks.append((self.place, self.rows))
            self.place = offset
            self.rows = 0
        self.place = offset if not self.rows else self.place
        self.rows += 1

    def give_up(self) -> str:
        """Leave out the last row, whose members may lack, and return which it is."""
        self.rows -= self.key is not None
        return f"{self.complete}{f' ({self.key})' if self.key else ''}"

    def closed(self) -> tuple[tuple[int, int], ...]:
        """Return the place and the number of rows of each chunk."""
        last = [(self.place, self.rows)] if self.rows else []
        return (*self.chunks, *last)


def _check_keys(examples: dict[str, str], rows: int) -> None:
    """Check that dots in the names of members part columns and not rows.

    Args:
        examples: by extension, the name of a member that has it.

    Raises:
        ValueError: there are more extensions with dots than rows.
    """
    dotted = [example for extension, example in examples.items() if "." in extension]
    if len(dotted) > max(1, rows):
        key, extension = _parted(dotted[0])
        raise ValueError(
            f"has {len(dotted)} columns in {rows} rows: the key of a row ends at the first dot of a"
            f" member's name, as in webdataset, so that {dotted[0]!r} is column {_column(extension)[0]!r} of row {key!r}; name members"
            " without dots in their keys"
        )


class _EndsEarly(Exception):
    """A tar archive is cut off or corrupt."""


def _members(file: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """The files of an archive from where ``file`` stands, with their key and extension.

    Raises:
        _EndsEarly: it stops before the zeros that close an archive.
    """
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (the file is the caller's)
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # or every header of the shard would be kept
            key, extension = _parted(member.name)
            if member.isreg() and key.rpartition("/")[2] and extension:
                yield member, key, extension
        file.seek(archive.offset)
        closing = file.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, EOFError) as error:
        raise _EndsEarly(one_line(error)) from None
    if len(closing) < tarfile.BLOCKSIZE or any(closing):
        raise _EndsEarly(
            "no end of the archive"
            if len(closing) < tarfile.BLOCKSIZE
            else f"no header of a member at byte {archive.offset}"
        )


def _parted(name: str) -> tuple[str, str]:
    """Key and extension of a member, which meet at the first dot of the name of its
    file, as in webdataset."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension


def _column(extension: str) -> tuple[str, str]:
    """Name of the column that members with an extension are, and how it is stored."""
    name, _, kind = extension.lower().rpartition(".")
    if kind == "json":
        return "json", kind
    return name.replace(".", "_") or NAMED.get(kind, kind), NAMED.get(kind, kind)


def _values(extension: str, content: bytes, names: Sequence[str] | None) -> list[tuple[str, Any]]:
    """What a member says, by column: one value, or the fields of a JSON object. What
    cannot be read is :class:`Broken`."""
    name, kind = _column(extension)
    if kind == "json":
        try:
            fields = json.loads(content)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            return [(_FIELDS, Broken(f"member .{extension} is no JSON ({one_line(error)})"))]
        if not isinstance(fields, dict):
            return [(_FIELDS, Broken(f"member .{extension} is no JSON object of columns"))]
        return [(key, value) for key, value in fields.items() if names is None or key in names]
    if names is not None and name not in names:
        return []
    check_readable(name, kind)
    try:
        return [
            (
                name,
                content.decode()
                if kind == "text"
                else int(content)
                if kind == "class"
                else content,
            )
        ]
    except ValueError as error:  # also of UTF-8
        return [
            (
                name,
                Broken(
                    f"member .{extension} is no {'text in UTF-8' if kind == 'text' else 'number of a class'} ({one_line(error)})"
                ),
            )
        ]


def check_readable(name: str, kind: str) -> None:
    """Check that members of a tar are of a kind that is read.

    Raises:
        ValueError: they are not.
    """
    if kind not in {*NAMED.values(), "json"}:
        why = "is pickled, and nothing is unpickled here" if kind in _PICKLED else "is not read"
        raise ValueError(
            f"a member .{kind} (column {name!r}) {why}; leave it out by naming the columns that are wanted"
        )
