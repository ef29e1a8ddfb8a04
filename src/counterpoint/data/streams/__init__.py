"""Rows in shards on disk, more than memory holds: Parquet files, and tar archives as
webdataset has them."""

from __future__ import annotations

from counterpoint.data.streams.chunks import BadRow
from counterpoint.data.streams.files import is_stream
from counterpoint.data.streams.index import Index, Wanted
from counterpoint.data.streams.stream import Stream, StreamLoader

__all__ = [
    "BadRow",
    "Index",
    "Stream",
    "StreamLoader",
    "Wanted",
    "is_stream",
]
