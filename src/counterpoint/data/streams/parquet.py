"""Read Parquet files row group by row group."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from counterpoint.core.optional import required
from counterpoint.data.split import Array
from counterpoint.data.streams.shard import Cells, Shard, Survey, one_line


class Parquet(Shard):
    """Read a Parquet file."""

    def survey(self) -> Survey:
        with self._open() as file:
            groups = range(file.metadata.num_row_groups)
            rows = [(i, file.metadata.row_group(i).num_rows) for i in groups]
            return Survey(
                tuple((i, n) for i, n in rows if n),
                {f.name: str(f.type) for f in file.schema_arrow},
            )

    def classes(self) -> dict[str, str]:
        """Return the names of the classes of each label that has them, as Hugging
        Face's datasets note them."""
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
                    f"row group {place} cannot be read ({one_line(error)}); write the shard again"
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
                f"is no whole Parquet file ({one_line(error)}); write it again"
            ) from error


def _arrow_cells(name: str, column: Any) -> Cells:
    """The cells of a column of a table."""
    pyarrow = required("pyarrow", "streams")
    types = pyarrow.types
    # The latter copies.
    array = column.chunk(0) if column.num_chunks == 1 else pyarrow.concat_arrays(column.chunks)
    if isinstance(array, pyarrow.ExtensionArray):
        array = array.storage
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_struct(array.type):
        array = _bytes_of(name, array)
    present = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), bool)
    if array.null_count:
        array = array.drop_null()
    return Cells(_arrow_values(name, array), present)


def _bytes_of(name: str, array: Any) -> Any:
    """The field ``bytes`` of an array of structs.

    Raises:
        ValueError: there is none, or an image stands elsewhere, at a ``path``.
    """
    compute = required("pyarrow.compute", "streams")
    fields = {field.name for field in array.type}
    if "bytes" not in fields:
        raise ValueError(
            f"column {name!r} is a {array.type}, which is not read; leave it out by naming the columns that are wanted"
        )
    content = compute.struct_field(array, "bytes")
    elsewhere = compute.and_(array.is_valid(), compute.is_null(content))
    if "path" in fields and compute.any(elsewhere).as_py():
        row = compute.index(elsewhere, True).as_py()
        where = compute.struct_field(array, "path")[row].as_py()
        if where is not None:
            raise ValueError(
                f"column {name!r} holds the path {where!r} instead of an image; write the shard with the images in it"
            )
    return content


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
    types = pyarrow.types
    shape = [len(array)]
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
