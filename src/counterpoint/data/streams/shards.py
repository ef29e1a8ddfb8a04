"""Shards: files that hold the rows of a data set too large for memory, and are read a
chunk of rows at a time.

Parquet (https://parquet.apache.org), also as Hugging Face's datasets write it: a chunk
is a row group. A column is a modality or a label, and a null is absent. Images are
bytes, or a struct of ``bytes`` and ``path``.

Tar as webdataset has it (https://github.com/webdataset/webdataset): consecutive members
``KEY.EXTENSION`` of one KEY are a row, and a member that is not there is absent. A
chunk is a run of rows; where it begins is found by one pass over the headers. Read with
the standard library: the webdataset library reads archives from their beginning only,
and unpickles members. What is pickled is refused here.
"""

from __future__ import annotations

import json
import math
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from counterpoint.core.optional import required
from counterpoint.data.split import Array

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


@dataclass(frozen=True)
class Broken:
    """In the place of a value that could not be read, says why."""

    why: str


@dataclass(frozen=True)
class Cells:
    """What a column holds in some rows.

    Attributes:
        values: of the rows that have one: bytes, text, numbers or lists, or one array
            with a row each.
        present: (N,) bool, which rows have one.
    """

    values: Sequence[Any] | Array
    present: Array

    @staticmethod
    def of(cells: Sequence[Any]) -> Cells:
        """From a value each row; None where it has none."""
        return Cells(
            [cell for cell in cells if cell is not None],
            np.array([cell is not None for cell in cells], bool),
        )

    def take(self, rows: Array) -> Cells:
        """The cells of the chosen rows (indices)."""
        if len(rows) == len(self.present) and (rows == np.arange(len(rows))).all():
            return self
        place = np.cumsum(self.present) - 1
        chosen = place[rows][self.present[rows]]
        values = (
            self.values[chosen]
            if isinstance(self.values, np.ndarray)
            else [self.values[i] for i in chosen]
        )
        return Cells(values, self.present[rows])


@dataclass(frozen=True)
class Survey:
    """What one look at a shard finds.

    Attributes:
        chunks: where each chunk begins (a row group's number, a byte), and its number
            of rows.
        columns: by name, how it is stored; what differs between shards is not the same
            column.
        ends_early: why rows after these cannot be read, if they cannot.
    """

    chunks: tuple[tuple[int, int], ...]
    columns: dict[str, str]
    ends_early: str | None = None


class Shard(ABC):
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def survey(self) -> Survey:
        """Look at the whole file, but for values.

        Raises:
            ValueError: it is no file of its kind, or none of its rows can be read.
        """

    @abstractmethod
    def cells(self, place: int, rows: int, names: Sequence[str] | None = None) -> dict[str, Cells]:
        """The chosen columns (all where None) of a chunk.

        Raises:
            ValueError: the file is not what the survey found, or corrupt.
        """


class Parquet(Shard):
    """A Parquet file."""

    def survey(self) -> Survey:
        with self._open() as file:
            groups = range(file.metadata.num_row_groups)
            rows = [(i, file.metadata.row_group(i).num_rows) for i in groups]
            return Survey(
                tuple((i, n) for i, n in rows if n),
                {f.name: str(f.type) for f in file.schema_arrow},
            )

    def classes(self) -> dict[str, str]:
        """Names of the classes of each label that has them, as Hugging Face's datasets
        note them."""
        with self._open() as file:
            said = (file.metadata.metadata or {}).get(b"huggingface", b"{}")
        try:
            features = json.loads(said).get("info", {}).get("features", {})
            return {
                name: ", ".join(f["names"])
                for name, f in features.items()
                if isinstance(f, dict) and f.get("_type") == "ClassLabel"
            }
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            return {}  # names are a comfort; data without them are data

    def cells(self, place: int, rows: int, names: Sequence[str] | None = None) -> dict[str, Cells]:
        pyarrow = required("pyarrow", "streams")
        with self._open() as file:
            lacking = [name for name in names or () if name not in file.schema_arrow.names]
            if lacking:
                raise ValueError(
                    f"no column {lacking[0]!r}; its columns are {', '.join(file.schema_arrow.names)}"
                )
            try:
                table = file.read_row_group(
                    place, columns=None if names is None else [*names], use_threads=False
                )
            except (pyarrow.ArrowException, OSError, IndexError) as error:
                raise ValueError(
                    f"row group {place} cannot be read ({_line(error)}); write the shard again"
                ) from error
        if len(table) != rows:
            raise ValueError(
                f"row group {place} has {len(table)} rows, and had {rows} when it was indexed; index again"
            )
        return {
            name: _arrow_cells(name, table.column(name)) for name in (names or table.column_names)
        }

    def _open(self) -> Any:
        pyarrow, parquet = required("pyarrow", "streams"), required("pyarrow.parquet", "streams")
        try:
            return parquet.ParquetFile(self.path, pre_buffer=False)
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            raise ValueError(
                f"is no whole Parquet file ({_line(error)}); write it again"
            ) from error


def _arrow_cells(name: str, column: Any) -> Cells:
    """The cells of a column of a table."""
    pyarrow, compute = required("pyarrow", "streams"), required("pyarrow.compute", "streams")
    types = pyarrow.types
    array = (
        column.chunk(0) if column.num_chunks == 1 else pyarrow.concat_arrays(column.chunks)
    )  # the latter copies
    if isinstance(array, pyarrow.ExtensionArray):
        array = array.storage
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_struct(array.type):
        if "bytes" not in {field.name for field in array.type}:
            raise ValueError(
                f"column {name!r} is a {array.type}, which is not read; leave it out by naming the columns that are wanted"
            )
        elsewhere = compute.and_(
            array.is_valid(), compute.is_null(compute.struct_field(array, "bytes"))
        )
        if "path" in {field.name for field in array.type} and compute.any(elsewhere).as_py():
            row = compute.index(elsewhere, True).as_py()
            where = compute.struct_field(array, "path")[row].as_py()
            if where is not None:
                raise ValueError(
                    f"column {name!r} holds the path {where!r} in the place of an image; write the shard with the images in it"
                )
        array = compute.struct_field(array, "bytes")
    present = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), bool)
    if array.null_count:
        array = array.drop_null()
    return Cells(_arrow_values(name, array), present)


def _arrow_values(name: str, array: Any) -> Sequence[Any] | Array:
    """The values of an Arrow array without nulls; without a copy where they lie side by
    side."""
    types = required("pyarrow", "streams").types
    kind = array.type
    if types.is_binary(kind) or types.is_large_binary(kind):
        _, offsets, data = array.buffers()
        ends = np.frombuffer(offsets, np.int64 if types.is_large_binary(kind) else np.int32)[
            array.offset :
        ][: len(array) + 1]
        view = memoryview(data) if data is not None else memoryview(b"")
        return [
            view[start:end]
            for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        ]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        dense = _arrow_block(array)
        return array.to_pylist() if dense is None else dense
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    if types.is_string(kind) or types.is_large_string(kind) or types.is_fixed_size_binary(kind):
        values: list[Any] = array.to_pylist()
        return values
    raise ValueError(
        f"column {name!r} is a {kind}, which is not read; leave it out by naming the columns that are wanted"
    )


def _arrow_block(array: Any) -> Array | None:
    """Lists of one length, and lists of such lists, as one array (N, ...); None where
    they are not alike, or hold no numbers."""
    pyarrow, compute = required("pyarrow", "streams"), required("pyarrow.compute", "streams")
    types, shape = pyarrow.types, [len(array)]
    while (
        types.is_list(array.type)
        or types.is_large_list(array.type)
        or types.is_fixed_size_list(array.type)
    ):
        lengths = compute.min_max(compute.list_value_length(array)).as_py()
        if array.null_count or lengths["min"] != lengths["max"] or lengths["min"] is None:
            return None
        shape.append(lengths["min"])
        array = array.flatten()
    numbers = (
        types.is_integer(array.type)
        or types.is_floating(array.type)
        or types.is_boolean(array.type)
    )
    if not numbers or array.null_count or len(array) != math.prod(shape):
        return None
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)


class Tar(Shard):
    """A tar archive that is not compressed."""

    def survey(self) -> Survey:
        chunks: list[tuple[int, int]] = []
        columns: dict[str, str] = {}
        examples: dict[str, str] = {}  # by extension, the first member that has it
        key, rows, place, complete = (
            None,
            0,
            0,
            0,
        )  # `complete` counts the rows before the last one begun
        why = None
        with self.path.open("rb") as file:
            members = _members(file)
            try:
                for member, found, extension in members:
                    if found != key:
                        complete += key is not None
                        key = found
                        if rows >= CHUNK_ROWS or member.offset - place >= CHUNK_BYTES:
                            chunks.append((place, rows))
                            place, rows = member.offset, 0
                        place = member.offset if not rows else place
                        rows += 1
                    columns.setdefault(*_column(extension))
                    examples.setdefault(extension, member.name)
            except _EndsEarly as error:
                why = f"ends early, in row {complete}{f' ({key})' if key else ''} ({error}); write it again"
                rows -= key is not None  # of the last row members may be missing
        if rows:
            chunks.append((place, rows))
        if not chunks:
            raise ValueError(why or "holds no row; expected members KEY.EXTENSION")
        dotted = [example for extension, example in examples.items() if "." in extension]
        if len(dotted) > max(1, sum(count for _, count in chunks)):
            key, extension = _parted(dotted[0])
            raise ValueError(
                f"has {len(dotted)} columns in {sum(count for _, count in chunks)} rows: the key of a row ends at the first dot of a"
                f" member's name, as in webdataset, so that {dotted[0]!r} is column {_column(extension)[0]!r} of row {key!r}; name members"
                " without dots in their keys"
            )
        return Survey(tuple(chunks), columns, why)

    def cells(self, place: int, rows: int, names: Sequence[str] | None = None) -> dict[str, Cells]:
        found: list[dict[str, Any]] = []
        key = None
        with self.path.open("rb") as file:
            file.seek(place)
            try:
                for member, this, extension in _members(file):
                    if this != key:
                        if len(found) == rows:
                            break
                        found.append({})
                        key = this
                    file.seek(member.offset_data)
                    for name, value in _values(extension, file.read(member.size), names):
                        twice = f"two members are called {name!r} (the key of a row, {key!r}, ends at the first dot of a member's name)"
                        found[-1][name] = Broken(twice) if name in found[-1] else value
            except _EndsEarly as error:
                raise ValueError(f"ends early ({error}); write it again") from None
        if len(found) != rows:
            raise ValueError(
                f"{len(found)} rows follow byte {place}, and {rows} did when it was indexed; index again"
            )
        known = dict.fromkeys(name for row in found for name in row if name != _FIELDS)
        return {
            name: Cells.of([row.get(name, row.get(_FIELDS)) for row in found])
            for name in (known if names is None else names)
        }


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
        raise _EndsEarly(_line(error)) from None
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
            return [(_FIELDS, Broken(f"member .{extension} is no JSON ({_line(error)})"))]
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
                    f"member .{extension} is no {'text in UTF-8' if kind == 'text' else 'number of a class'} ({_line(error)})"
                ),
            )
        ]


def check_readable(name: str, kind: str) -> None:
    """Whether members of a tar are of a kind that is read.

    Raises:
        ValueError: they are not.
    """
    if kind not in {*NAMED.values(), "json"}:
        why = "is pickled, and nothing is unpickled here" if kind in _PICKLED else "is not read"
        raise ValueError(
            f"a member .{kind} (column {name!r}) {why}; leave it out by naming the columns that are wanted"
        )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


KINDS: dict[str, type[Shard]] = {".parquet": Parquet, ".tar": Tar}
"""Kinds of shards by the end of their name."""
