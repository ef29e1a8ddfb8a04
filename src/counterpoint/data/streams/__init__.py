"""Rows in shards on disk, more than memory holds: Parquet files, and tar archives as
webdataset has them."""

from __future__ import annotations

from counterpoint.data.streams.index import Index, Wanted
from counterpoint.data.streams.stream import BadRow, Stream, StreamLoader
from counterpoint.data.streams.survey import find, is_stream

__all__ = ["BadRow", "Index", "Stream", "StreamLoader", "Wanted", "find", "is_stream"]
